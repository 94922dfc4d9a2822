"""A case from its encoded picture to its result, with no golden value in between."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from models.pipeline import Pixels
from tests.parity.iclight import tolerances as allowed
from tests.parity.iclight.case import Case
from tests.parity.iclight.recording import Run, recording
from tests.parity.report import Row, exact, within


def free_run(case: Case) -> Iterator[Row]:
    """Run the pipeline and compare what passed through it."""
    steps: list[int] = []
    with recording(case.golden.networks.vae) as run:
        (pictures,) = case.golden.model.run([case.prepared], lambda step, _total: steps.append(step))
    yield exact("free steps", steps, list(range(1, 1 + case.facts["p1"]["n_evals"] + case.facts["p2"]["n_evals"])))
    yield from _draws(case, run.draws)
    yield from _vae_calls(case, run)
    yield from _first_pass(case, run)
    yield from _result(case, run, pictures)


def _draws(case: Case, draws: list[Tensor]) -> Iterator[Row]:
    golden = case.facts["rng_draws"]
    yield exact("free rng shapes", [list(draw.shape) for draw in draws], [draw["shape"] for draw in golden])
    yield exact("free rng dtypes", [str(draw.dtype) for draw in draws], [draw["dtype"] for draw in golden])
    first = [draw.flatten()[:4].tolist() for draw in draws]
    yield within("free rng first4", first, [draw["first4"] for draw in golden], allowed.RANDOM)
    sums = [draw.double().sum().item() for draw in draws]
    yield within("free rng sum", sums, [draw["sum"] for draw in golden], allowed.RANDOM)


def _vae_calls(case: Case, run: Run) -> Iterator[Row]:
    """The same pictures pass, whatever the batches and their order: neither encoding nor decoding draws anything."""
    yield exact("free vae_encodes", _singly(run.encoder_inputs), _singly(case.facts["vae_encodes"]))
    yield exact("free vae_decodes", _singly(run.decoder_inputs), _singly(case.facts["vae_decodes"]))


def _singly(batches: list[list[int]]) -> list[list[int]]:
    return sorted([1, *shape] for count, *shape in batches for _ in range(count))


def _first_pass(case: Case, run: Run) -> Iterator[Row]:
    tensors, walk = case.tensors, run.walks[0]
    yield within("free cond", walk.conditions.positive[:1], tensors["cond"], allowed.TEXT)
    yield within("free uncond", walk.conditions.negative[:1], tensors["uncond"], allowed.TEXT)
    yield within("free p1.concat_conds", walk.conditions.cond_latents[:1], tensors["p1.concat_conds"], allowed.ENCODED)
    yield within("free p1.unet_in0", walk.first_input, tensors["p1.unet_in0"], allowed.DENOISED)
    yield within("free p1.unet_out0", walk.first_output, tensors["p1.unet_out0"], allowed.DENOISED)
    yield within("free p1.steps", walk.steps, tensors["p1.steps"], allowed.DENOISED)
    yield within("free p1.latents", walk.latents, tensors["p1.latents"], allowed.DENOISED)
    decoded = tensors["p1.decoded_u8"]
    yield within("free p1.decoded_u8", run.decoded[0].pictures, decoded, allowed.LEVEL, share=allowed.DECODED_SHARE)


def _result(case: Case, run: Run, pictures: Pixels) -> Iterator[Row]:
    tensors, walk = case.tensors, run.walks[1]
    yield within("free p2.concat_conds", walk.conditions.cond_latents[:1], tensors["p2.concat_conds"], allowed.ENCODED)
    yield within("free p2.latents", walk.latents, tensors["p2.latents"], allowed.WHOLE_LATENTS)
    final = tensors["final_u8"]
    yield within("free final_u8", pictures, final, allowed.WHOLE_LEVELS, mean_abs=allowed.WHOLE_MEAN_LEVELS)
