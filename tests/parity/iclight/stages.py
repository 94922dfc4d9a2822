"""Every stage of a case, given the golden input of that stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import torch
from torch import Tensor

from models.ic_light import conditioning, prompt, vae
from models.ic_light.conditioning import to_rgb
from models.ic_light.sampling import Conditions, Noise, add_noise, make_scheduler
from models.imaging.decode import decode
from models.imaging.resample import resample
from tests.parity.iclight import tolerances as allowed
from tests.parity.iclight.case import Case
from tests.parity.iclight.recording import walk
from tests.parity.iclight.units import token_row
from tests.parity.report import Row, close, exact, within


def stages(case: Case) -> Iterator[Row]:
    """All of them, in the order in which they run."""
    yield from _texts(case)
    yield from _schedules(case)
    yield from _sights(case)
    noise = Noise(case.params.seed, case.params.number_of_images, case.golden.device, source=torch.device("cpu"))
    for number in (1, 2):
        yield from _pass(case, number, noise)
    yield from decoding(case)


def _texts(case: Case) -> Iterator[Row]:
    prepared, networks, facts = case.prepared, case.golden.networks, case.facts
    yield exact("positive_prompt", prompt.positive_prompt(case.params), facts["positive_prompt"])
    yield exact("negative_prompt", case.params.negative_prompt, facts["negative_prompt"])
    for name, chunks in (("tokens_pos", prepared.positive), ("tokens_neg", prepared.negative)):
        yield token_row(name, chunks, facts[name], networks.tokenizer.eos_token_id)
        yield exact(f"{name} chunks", len(chunks), max(1, ceil(len(facts[name]) / prompt.CHUNK)))
    chunks_of_both = prepared.positive, prepared.negative
    texts = (prompt.encode(prompt.final_states, networks.text_encoder, chunks) for chunks in chunks_of_both)
    positive, negative = prompt.pair(*texts)
    yield within("cond", positive, case.tensors["cond"], allowed.TEXT)
    yield within("uncond", negative, case.tensors["uncond"], allowed.TEXT)


def _schedules(case: Case) -> Iterator[Row]:
    for number, step_range in enumerate(case.prepared.step_ranges, start=1):
        golden, name = case.facts[f"p{number}"], f"p{number}"
        yield exact(f"{name}.num_inference_steps", step_range.length, golden["num_inference_steps"])
        yield exact(f"{name}.begin_index", step_range.begin, golden["begin_index"] or 0)
        yield exact(f"{name}.n_evals", step_range.evaluations, golden["n_evals"])
        scheduler = make_scheduler(step_range, case.golden.device)
        yield exact(f"{name}.timesteps_full", scheduler.timesteps, case.tensors[f"{name}.timesteps_full"])
        sigmas = case.tensors[f"{name}.sigmas_full"]
        yield close(f"{name}.sigmas_full", scheduler.sigmas, sigmas, allowed.SIGMAS, allowed.SIGMAS)
    strengths = (case.facts["p1"]["strength"], case.facts["p2"]["strength"])
    first = None if case.prepared.gradient is None else case.params.lowres_denoise
    yield exact("strengths", [first, case.params.highres_denoise], list(strengths))


def _sights(case: Case) -> Iterator[Row]:
    """What the UNet sees beside noise, and what the passes start from."""
    feed = case.prepared.matting_feed
    yield exact("rmbg_feed_wh", [feed.shape[1], feed.shape[0]], case.facts["rmbg_feed_wh"])
    pictures = [_subject_on_grey(case)] + ([torch.from_numpy(case.background)] if case.sees_background else [])
    sizes = ((case.params.width, case.params.height), case.params.output_size)
    for number, (width, height) in enumerate(sizes, start=1):
        cut = [conditioning.resize_and_center_crop(picture, width, height) for picture in pictures]
        cond_latents = _encode(case, cut).flatten(0, 1)[None]
        yield within(f"p{number}.concat_conds", cond_latents, case.tensors[f"p{number}.concat_conds"], allowed.ENCODED)
    starts = {"p1": None if case.prepared.gradient is None else [case.prepared.gradient]}
    starts["p2"] = list(case.tensors["hires_u8"])
    for name, start in starts.items():
        yield exact(f"{name} starts from a picture", start is not None, f"{name}.image_latents" in case.tensors)
        if start is not None:
            latents = vae.encode(
                vae.encode_pictures, case.golden.networks.vae, [picture.to(case.golden.device) for picture in start]
            )
            yield within(f"{name}.image_latents", latents, case.tensors[f"{name}.image_latents"], allowed.ENCODED)


def _encode(case: Case, pictures: Sequence[Tensor]) -> Tensor:
    """Latents of pictures that the UNet sees together."""
    return vae.encode_pictures(case.golden.networks.vae, torch.stack(list(pictures)).to(case.golden.device))


def _subject_on_grey(case: Case) -> Tensor:
    """The subject's golden composite where the set has one, else this project's own."""
    golden = case.golden
    if (golden.folder / "unit" / "rmbg_result.safetensors").is_file():
        return golden.tensors("unit/rmbg_result.safetensors")["fg_gray_u8"]
    return golden.composite()


def _pass(case: Case, number: int, noise: Noise) -> Iterator[Row]:
    """The denoise loop from golden conditions and start; `noise` has given all draws before this pass."""
    name, tensors = f"p{number}", case.tensors
    conditions = _conditions(case, name)
    scheduler = make_scheduler(case.prepared.step_ranges[number - 1], case.golden.device)
    latents = noise.draw(conditions.cond_latents.shape[2:], torch.float32)
    if f"{name}.image_latents" in tensors:
        start = tensors[f"{name}.image_latents"].to(latents)
        latents = add_noise(scheduler, start.expand_as(latents), latents)
    done = walk(case.unet, scheduler, latents, conditions, noise, lambda: None)
    yield exact(f"{name}.unet_batch", len(done.first_input), case.facts[name]["unet_batch"])
    yield within(f"{name}.unet_in0", done.first_input, tensors[f"{name}.unet_in0"], allowed.DENOISED)
    yield within(f"{name}.unet_out0", done.first_output, tensors[f"{name}.unet_out0"], allowed.DENOISED)
    if f"{name}.unet_ctx0" in tensors:
        yield within(f"{name}.unet_ctx0", done.first_text, tensors[f"{name}.unet_ctx0"], allowed.TEXT)
    yield within(f"{name}.steps", done.steps, tensors[f"{name}.steps"], allowed.DENOISED)
    yield within(f"{name}.latents", done.latents, tensors[f"{name}.latents"], allowed.DENOISED)


def _conditions(case: Case, name: str) -> Conditions:
    rows, device = case.params.number_of_images, case.golden.device
    cond_latents = case.tensors[f"{name}.concat_conds"].to(device).expand(rows, -1, -1, -1)
    positive, negative = (case.tensors[text].to(device).expand(rows, -1, -1) for text in ("cond", "uncond"))
    return Conditions(cond_latents, positive, negative, guidance=case.params.cfg)


def decoding(case: Case) -> Iterator[Row]:
    """Golden latents of both passes to pictures, and the picture files of the result."""
    tensors, network, device = case.tensors, case.golden.networks.vae, case.golden.device
    small = vae.decode(vae.decode_picture, network, tensors["p1.latents"].to(device)).pictures
    yield within("p1.decoded_u8", small, tensors["p1.decoded_u8"], allowed.LEVEL, share=allowed.DECODED_SHARE)
    enlarged = [resample(picture, *case.params.output_size) for picture in tensors["p1.decoded_u8"]]
    yield exact("hires_u8", torch.stack(enlarged), tensors["hires_u8"])
    final = vae.decode(vae.decode_picture, network, tensors["p2.latents"].to(device)).pictures
    yield within("final_u8", final, tensors["final_u8"], allowed.LEVEL)
    last = tensors["final_float"]
    yield within("final_u8 of final_float", vae.quantise(last), tensors["final_u8"][-len(last) :], allowed.LEVEL)
    for number, picture in case.pictures.items():
        yield exact(f"out{number}.png", to_rgb(decode(picture)), tensors["final_u8"][number])
