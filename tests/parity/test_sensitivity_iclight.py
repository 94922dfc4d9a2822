"""The runner notices: each wrong detail of `unit/sensitivity.json`, put into the project, makes it fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import Tensor

from models.ic_light import conditioning, matting, networks, prompt, sampling, vae
from models.ic_light.pipeline import IcLight
from models.ic_light.sampling import StepRange
from models.imaging import resample
from tests.parity.__main__ import main
from tests.parity.iclight.golden_set import KEPT

Patch = pytest.MonkeyPatch
Wrong = Callable[[Patch], None]
CASE, OPERATIONS, TABLES, SCHEDULES = "cases", "unit/image_ops", "unit/integer_tables", "unit/scheduler_tables"


def setting(name: str, value: object) -> Wrong:
    """Another setting of the solver."""
    return lambda patch: patch.setitem(sampling.SETTINGS, name, value)


def constant(module: object, name: str, value: object) -> Wrong:
    """Another value of one of a module's names."""
    return lambda patch: patch.setattr(module, name, value)


def cond_first(latents: Tensor, cond_latents: Tensor) -> Tensor:
    """The UNet's input in the wrong order."""
    return torch.cat((cond_latents, latents), dim=1)


def unscaled(model: IcLight, *given: Any, encode: Callable[..., Tensor] = IcLight._encode_conditions) -> Tensor:
    """Foreground latents as the encoder leaves them."""
    return encode(model, *given) / model._networks.vae.config.scaling_factor


def base_alone(base: Tensor, _offset: Tensor) -> Tensor:
    """A UNet without its offset."""
    return base.float()


def merged_in_half(base: Tensor, offset: Tensor) -> Tensor:
    """The sum in half precision."""
    return (base.half() + offset.half()).float()


def as_many_steps(steps: int, strength: float) -> StepRange:
    """A schedule that is not made longer for being walked in part."""
    return StepRange(length=steps, begin=steps - min(int(steps * strength), steps))


def bicubic(x: Tensor) -> Tensor:
    """Another kernel: Keys', which ends at 2."""
    x = x.abs()
    inner, outer = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, inner, torch.where(x < 2, outer, 0.0))


def square(_width: int, _height: int) -> tuple[int, int]:
    """A feed that forgets the aspect."""
    return 1024, 1024


def in_levels(*given: Any, fit_alpha: Callable[..., Tensor] = matting.fit_alpha) -> Tensor:
    """Alpha in 256 steps."""
    return (fit_alpha(*given) * 255).to(torch.uint8).float() / 255


WRONG: Final[dict[str, tuple[str, Wrong]]] = {
    "scheduler beta_schedule=scaled_linear": (SCHEDULES, setting("beta_schedule", "scaled_linear")),
    "scheduler final_sigmas_type=sigma_min": (SCHEDULES, setting("final_sigmas_type", "sigma_min")),
    "scheduler use_karras_sigmas=False": (SCHEDULES, setting("use_karras_sigmas", False)),
    "scheduler dpmsolver++ (no SDE)": (CASE, setting("algorithm_type", "dpmsolver++")),
    "image norm /127.5": (OPERATIONS, constant(vae, "GREY", 127.5)),
    "concat order fg,noise": (CASE, constant(sampling, "unet_input", cond_first)),
    "fg latents not scaled": (CASE, constant(IcLight, "_encode_conditions", unscaled)),
    "offset not added": (CASE, constant(networks, "merge", base_alone)),
    "merge in fp16": (CASE, constant(networks, "merge", merged_in_half)),
    "round instead of truncate to u8": (OPERATIONS, constant(vae, "DECODED_SHIFT", 128.0)),
    "bicubic instead of Lanczos": (OPERATIONS, constant(resample, "lanczos", bicubic)),
    "gradient 224..32 (fbc range)": (
        OPERATIONS,
        constant(conditioning, "START_LEVELS", (224, 32)),
    ),
    'no ", " between prompts': (CASE, constant(prompt, "SEPARATOR", "")),
    "strength not compensated (N=steps)": (TABLES, constant(sampling, "partial_range", as_many_steps)),
    "rmbg feed 1024x1024": (TABLES, constant(matting, "feed_size", square)),
    "alpha u8-quantised": (CASE, constant(matting, "fit_alpha", in_levels)),
}
"""By the name in that file: the part of the set that shows it, and how the project is made wrong."""


def _param(detail: str, part: str, _wrong: Wrong) -> Any:
    return pytest.param(detail, marks=pytest.mark.slow if part == CASE else ())  # a case takes many seconds


NEEDS_TWO_PICTURES: Final = "per-sample generators"
"""The kept case draws one picture, for which these are the same."""


def part_of_set(part: str, folder: Path) -> Path:
    """A set that holds this part alone."""
    for file in KEPT.glob(f"{part}/*" if part == CASE else f"{part}.*"):
        target = folder / file.relative_to(KEPT)
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(file)
    return folder


def failed_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Comparisons that fail because values differ, not because something broke."""
    assert main([str(folder), "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["rows"]
    return [row["name"] for row in rows if row["verdict"] == "FAIL" and "Error" not in row["note"]]


@pytest.mark.parametrize("detail", [_param(detail, *WRONG[detail]) for detail in WRONG])
def test_a_wrong_detail_fails(tmp_path: Path, monkeypatch: Patch, capsys, detail: str):
    part, wrong = WRONG[detail]
    wrong(monkeypatch)
    assert failed_names(part_of_set(part, tmp_path), capsys)


def test_every_recorded_detail_that_changes_anything_is_tried():
    effects = json.loads((KEPT / "unit" / "sensitivity.json").read_text())
    assert {name for name in effects if effects[name] != effects["identity"]} == {*WRONG, NEEDS_TWO_PICTURES}


@pytest.mark.parametrize("part", [OPERATIONS, TABLES, SCHEDULES])
def test_without_a_wrong_detail_the_part_passes(tmp_path: Path, part: str):
    assert main([str(part_of_set(part, tmp_path))]) == 0
