"""The files of `unit/`: one stage each, or one function's table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from bench.full_size import ic_light as full_size
from models.ic_light import conditioning, matting, prompt, sampling, vae
from models.ic_light.params import LightSource, Params
from models.imaging.types import Rgb
from tests.parity.iclight import tolerances as allowed
from tests.parity.iclight.golden_set import GoldenSet
from tests.parity.report import Row, close, exact, failed, within

AMBIENT_LEVEL: Final = 64
"""Level of the background without direction that the reference offers: an input, not a step of the pipeline."""
_CHUNKS: Final = {"2": "a " * 76, "3": "a " * 160}
"""The texts behind the pair that is named by numbers of chunks."""


def rmbg_result(golden: GoldenSet) -> Iterator[Row]:
    """Alpha and composite of the set's input picture."""
    expected = golden.tensors("unit/rmbg_result.safetensors")
    yield within("alpha", golden.alpha, expected["alpha"], allowed.ALPHA)
    composite = golden.composite()
    yield within("fg_gray_u8", composite, expected["fg_gray_u8"], allowed.LEVEL)
    given = conditioning.composite_on_grey(golden.picture, expected["alpha"])
    yield within("fg_gray_u8 of golden alpha", given, expected["fg_gray_u8"], 0.0)


def image_ops(golden: GoldenSet) -> Iterator[Row]:
    """Crops, gradients, conversions between levels and network values."""
    tensors = golden.tensors("unit/image_ops.safetensors")
    for name, expected in tensors.items():
        if match := re.fullmatch(r"crop_(\d+x\d+)_to_(\d+)x(\d+)", name):
            source = _crop_source(golden, tensors, match[1])
            crop = conditioning.resize_and_center_crop(source, int(match[2]), int(match[3]))
            yield exact(name, crop, expected)
        elif match := re.fullmatch(r"gradient_(fc|fbc)_([a-z]+)_(\d+)x(\d+)_profile", name):
            yield exact(name, _profile(match[1], match[2], int(match[3]), int(match[4])), expected)
        elif match := re.fullmatch(r"norm_out_of_([\d_]+)", name):
            yield close(
                name, vae.normalise(torch.tensor(_levels(match[1], expected))[None]), expected, 0.0, allowed.NORMALISED
            )
        elif match := re.fullmatch(r"rmbg_sigma(\d+)_fg_u8", name):
            yield within(name, golden.composite(float(match[1])), expected, allowed.LEVEL)
        elif name == "rmbg_feed_rowsum":
            feed = golden.networks.matting.to_feed(golden.picture)
            yield exact(name, feed.sum((1, 2)), expected)
        elif name == "quant_in":
            yield exact("quant_out_u8", vae.quantise(expected)[0], tensors["quant_out_u8"])
        elif name != "quant_out_u8" and not name.startswith("crop_src_"):
            yield failed(name, "not a known operation")


def _crop_source(golden: GoldenSet, tensors: Mapping[str, Tensor], size: str) -> Tensor:
    return tensors.get(f"crop_src_{size}", golden.picture)


def background_gradient(light_source: LightSource, width: int, height: int) -> Rgb:
    """The background of an fbc case that has a direction of light alone: a gradient from 224 to 32 (section 17)."""
    with patch.object(conditioning, "START_LEVELS", (224, 32)):
        gradient = conditioning.light_gradient(light_source, width, height)
    assert gradient is not None
    return gradient


def _profile(model: str, side: str, width: int, height: int) -> Rgb:
    """The line of a gradient along which it changes."""
    if side == "ambient":
        return np.full(height, AMBIENT_LEVEL, dtype=np.uint8)
    draw = conditioning.light_gradient if model == "fc" else background_gradient
    picture = draw(f"{side.title()} Light", width, height)  # type: ignore[arg-type]
    assert picture is not None
    return picture[0, :, 0] if side in ("left", "right") else picture[:, 0, 0]


def _levels(named: str, expected: Tensor) -> Rgb:
    """The picture of a normalisation: its name lists all levels but the last, a middle grey."""
    levels = [int(level) for level in named.split("_")]
    levels += [128] * (expected.numel() - len(levels))
    return np.array(levels, dtype=np.uint8).reshape(expected.shape[2], expected.shape[3], 3)


def integer_tables(golden: GoldenSet) -> Iterator[Row]:
    """Sizes, steps and boxes."""
    for name, table in golden.json("unit/integer_tables.json").items():
        if name in _TABLES:
            pairs = [_TABLES[name](row) for row in (table["rows"] if isinstance(table, dict) else table)]
            yield exact(name, [ours for ours, _ in pairs], [expected for _, expected in pairs])
        else:
            yield failed(name, "not a known table")


def _hires(row: list[Any]) -> tuple[int, int]:
    side, scale, result = row
    return Params.model_construct(width=side, height=side, highres_scale=scale).output_size[0], result


def _steps(row: list[Any]) -> tuple[list[int], list[int]]:
    steps, strength, length, begin, evaluations = row
    step_range = sampling.partial_range(steps, strength)
    # Where the reference would take no step at all, and fail, the last one is taken.
    expected = [length, begin, evaluations] if evaluations else [length, length - 1, 1]
    return [step_range.length, step_range.begin, step_range.evaluations], expected


def _feed(row: list[int]) -> tuple[list[int], list[int]]:
    height, width, feed_height, feed_width = row
    return list(matting.feed_size(width, height)), [feed_width, feed_height]


def _crop(entry: dict[str, list[int]]) -> tuple[list[int], list[int]]:
    size = conditioning.covering_size(*entry["src_wh"], *entry["target_wh"])
    box = conditioning.center_box(*size, *entry["target_wh"])
    return [*size, *box], [*entry["resized_wh"], *entry["box_int"]]


_TABLES: Final[Mapping[str, Callable[[Any], tuple[Any, Any]]]] = {
    "hires_round64": _hires,
    "i2i_steps": _steps,
    "rmbg_feed": _feed,
    "resize_center_crop": _crop,
}


def scheduler_tables(golden: GoldenSet) -> Iterator[Row]:
    """Timesteps and sigmas of whole schedules."""
    tables = golden.json("unit/scheduler_tables.json")
    training = sampling.make_scheduler(sampling.full_range(1), golden.device)
    ends = [float(training.alphas_cumprod[0]), float(training.alphas_cumprod[-1])]
    yield close("alphas_cumprod", ends, tables["alphas_cumprod_first_last"], allowed.SIGMAS, allowed.SIGMAS)
    for steps, table in tables["schedules"].items():
        made = sampling.make_scheduler(sampling.full_range(int(steps)), golden.device)
        yield exact(f"timesteps {steps}", made.timesteps, table["timesteps"])
        yield close(f"sigmas {steps}", made.sigmas, table["sigmas"], allowed.SIGMAS, allowed.SIGMAS)
    low, high = tables["sigma_min_max"]
    sigmas = sampling.make_scheduler(sampling.full_range(2), golden.device).sigmas
    yield close("sigma_min_max", [sigmas[1], sigmas[0]], [low, high], allowed.SIGMAS, allowed.SIGMAS)


def tokens(golden: GoldenSet) -> Iterator[Row]:
    """Ids of texts and the chunks that they fill."""
    tokenizer = golden.networks.tokenizer
    for name, entry in golden.json("unit/tokens.json").items():
        chunks = prompt.tokenise(tokenizer, entry["text"])
        yield exact(f"{name} chunks", len(chunks), entry["n_chunks"])
        yield token_row(name, chunks, entry["ids"], tokenizer.eos_token_id)


def token_row(name: str, chunks: prompt.Chunks, ids: list[int], end: int) -> Row:
    """Compare a tokenised text with its ids; what is left of the last chunk must hold the end id."""
    inside = [token for chunk in chunks for token in chunk[1:-1]]
    return exact(name, inside, ids + [end] * (len(inside) - len(ids)))


def prompt_pairs(golden: GoldenSet) -> Iterator[Row]:
    """Pairs of texts, embedded and brought to one length."""
    expected = golden.tensors("unit/prompt_pairs.safetensors")
    for name in sorted({key.rpartition(".")[0] for key in expected}):
        chunks = (prompt.tokenise(golden.networks.tokenizer, text) for text in _pair_of_texts(golden, name))
        embedded = (prompt.encode(prompt.final_states, golden.networks.text_encoder, text) for text in chunks)
        positive, negative = prompt.pair(*embedded)
        yield within(f"{name}.cond", positive, expected[f"{name}.cond"], allowed.TEXT)
        yield within(f"{name}.uncond", negative, expected[f"{name}.uncond"], allowed.TEXT)


def _pair_of_texts(golden: GoldenSet, name: str) -> list[str]:
    if match := re.fullmatch(r"pair_(\w+)_vs_(\w+)", name):
        return [_CHUNKS[chunks] for chunks in match.groups()]
    texts = golden.json("unit/tokens.json")
    return [texts[key]["text"] for key in name.removeprefix("pair_").split("__")]


def unet_keys(golden: GoldenSet) -> Iterator[Row]:
    """Keys and shapes of the UNet at full size."""
    keys = golden.json("unit/iclight_fc_keys_fullsize.json")["keys"]
    with torch.device("meta"):
        yield _same_shapes(full_size.unet(channels=keys["conv_in.weight"][1]), keys)


def matting_keys(golden: GoldenSet) -> Iterator[Row]:
    """Keys and shapes of the matting network at full size."""
    keys = golden.json("unit/rmbg14_keys_fullsize.json")["keys"]
    with torch.device("meta"):
        yield _same_shapes(full_size.rmbg(), keys)


def _same_shapes(network: torch.nn.Module, keys: Mapping[str, list[int]]) -> Row:
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    return exact(f"{len(keys)} keys and shapes", shapes, dict(keys))


def sensitivity(golden: GoldenSet) -> Iterator[Row]:
    """Whether the tolerances here tell every wrong detail that was recorded to change anything from the original."""
    effects = golden.json("unit/sensitivity.json")
    for name, effect in effects.items():
        told = any(effect[stage] > limit for stage, limit in allowed.BY_EFFECT.items())
        yield exact(f"{name} is told apart", told, effect != effects["identity"])


CHECKS: Final[Mapping[str, Callable[[GoldenSet], Iterator[Row]]]] = {
    "rmbg_result.safetensors": rmbg_result,
    "image_ops.safetensors": image_ops,
    "integer_tables.json": integer_tables,
    "scheduler_tables.json": scheduler_tables,
    "tokens.json": tokens,
    "prompt_pairs.safetensors": prompt_pairs,
    "iclight_fc_keys_fullsize.json": unet_keys,
    "rmbg14_keys_fullsize.json": matting_keys,
    "sensitivity.json": sensitivity,
}
"""By name of the file."""
