"""The requests that are measured, for ours and, by the same numbers, for the baselines."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from bench.full_size import baseline_ic_light, baseline_pulid
from bench.full_size.fakes import photo
from bench.full_size.networks import IcLightParts, PulidParts
from models.ic_light.params import Params as IcLightParams
from models.ic_light.pipeline import IcLight
from models.ic_light.pipeline import Prepared as PreparedIcLight
from models.pulid_lightning.conditions import Prepared as PreparedPulid
from models.pulid_lightning.params import Params as PulidParams
from models.pulid_lightning.pipeline import PulidLightning

PHOTO: Final = photo(960, 1200)
"""What every request looks at: about a megapixel."""
_SMALL: Final = {"width": 256, "height": 256}


def prepare_pulid(pipeline: PulidLightning, reduced: bool = False, **changes: Any) -> PreparedPulid:
    """The endpoint's defaults but for `changes`; small pictures if `reduced`."""
    size = _SMALL if reduced else {}
    params = PulidParams(**{"face_image": "photo", "prompt": "a portrait, soft light", "seed": 42, **size, **changes})
    return pipeline.prepare(params, {"face_image": PHOTO})


def prepare_ic_light(pipeline: IcLight, reduced: bool = False, **changes: Any) -> PreparedIcLight:
    """The endpoint's defaults but for `changes`; small pictures and few steps if `reduced`."""
    size = {**_SMALL, "steps": 3, "highres_scale": 1.25} if reduced else {}
    params = IcLightParams(**{"subject_image": "photo", "prompt": "a cup, sunset", "seed": 42, **size, **changes})
    return pipeline.prepare(params, {"subject_image": PHOTO})


class FirstStepDone(Exception):
    """Raised by `stop_after_one`."""


@torch.inference_mode()
def pulid_request(parts: PulidParts, prepared: PreparedPulid) -> baseline_pulid.PulidRequest:
    """The same request as the baselines take it: texts embedded, face looked at."""
    ids = prepared.negative_prompt.clip_l.ids + prepared.prompt.clip_l.ids
    tokens, pooled = baseline_pulid.embed(torch.tensor(ids, device=parts.device), parts.clip_l, parts.clip_g)
    identity = parts.extractor.extract(prepared.face)
    return baseline_pulid.PulidRequest(
        tokens=tokens,
        pooled=pooled,
        identity=torch.cat((identity.uncond, identity.cond)),
        size=prepared.params.output_size,
        pictures=prepared.params.number_of_images,
        seed=prepared.params.seed,
    )


@torch.inference_mode()
def ic_light_request(parts: IcLightParts, prepared: PreparedIcLight) -> baseline_ic_light.IcLightRequest:
    """The same request as the baselines take it: texts embedded."""
    params = prepared.params
    ids = torch.tensor(prepared.negative + prepared.positive, device=parts.device)
    return baseline_ic_light.IcLightRequest(
        subject=prepared.subject.numpy(),
        feed=prepared.matting_feed.numpy(),
        text=baseline_ic_light.embed(ids, parts.text_encoder),
        size=(params.width, params.height),
        final=params.output_size,
        steps=params.steps,
        guidance=params.cfg,
        highres_denoise=params.highres_denoise,
        pictures=params.number_of_images,
        seed=params.seed,
    )


def ignore_step(_step: int, _total: int) -> None:
    """Nobody wants to know."""


def stop_after_one(_step: int, _total: int) -> None:
    """End a run that has shown enough with its first step."""
    raise FirstStepDone


def distance(found: Tensor, exact: Tensor) -> float:
    """Length of the difference, in parts of the exact one's length (relative L2)."""
    exact = exact.double()
    return float((found.double() - exact).norm() / exact.norm())
