"""Our pipelines against the baselines, which compute the same from the specifications by other means."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bench.counts.tracing import decoded_latents, recorded_calls
from bench.full_size import baseline_ic_light, baseline_pulid
from bench.full_size.networks import ic_light_parts, ic_light_pipeline, pulid_parts, pulid_pipeline
from bench.full_size.workloads import (
    distance,
    ic_light_request,
    ignore_step,
    prepare_ic_light,
    prepare_pulid,
    pulid_request,
)

CPU = torch.device("cpu")
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def pulid():
    torch.manual_seed(0)
    return pulid_parts(CPU, reduced=True)


@pytest.fixture(scope="module")
def relighting():
    torch.manual_seed(1)
    return ic_light_parts(CPU, reduced=True)


def drawn(pipeline, prepared) -> list[torch.Tensor]:
    """Latents that our pipeline decodes."""
    with recorded_calls() as calls:
        pipeline.run([prepared], ignore_step)
    return decoded_latents(calls)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "wide", "changes"),
    [
        (baseline_pulid.separate, True, {}),
        pytest.param(baseline_pulid.batched, False, {"number_of_images": 2, "width": 320}, marks=pytest.mark.slow),
    ],
)
def test_a_pulid_request_gives_the_same_as_both_baselines(pulid, way: Callable, wide: bool, changes: dict):
    pipeline = pulid_pipeline(pulid)
    prepared = prepare_pulid(pipeline, reduced=True, **changes)
    ours = torch.cat(drawn(pipeline, prepared))
    baseline_pulid.install(pulid.unet, pulid.projections, wide)
    request = pulid_request(pulid, prepared)
    with torch.inference_mode():
        latents = baseline_pulid.draw_latents(way(pulid.unet, request), request)
        pictures = baseline_pulid.decode(pulid.vae, latents)
    assert distance(latents, ours) <= TOLERANCE
    assert pictures.shape == (request.pictures, request.size[1], request.size[0], 3)


@pytest.mark.slow
def test_the_baselines_see_the_face(pulid):
    pipeline = pulid_pipeline(pulid)
    request = pulid_request(pulid, prepare_pulid(pipeline, reduced=True))
    baseline_pulid.install(pulid.unet, pulid.projections, wide=False)
    other = baseline_pulid.PulidRequest(**{**vars(request), "identity": request.identity.flip(0)})
    with torch.inference_mode():
        first, second = (
            baseline_pulid.draw_latents(baseline_pulid.batched(pulid.unet, seen), seen) for seen in (request, other)
        )
    assert distance(second, first) > 10 * TOLERANCE


@pytest.mark.slow
def test_an_ic_light_request_gives_the_same_as_the_baseline(relighting):
    pipeline = ic_light_pipeline(relighting)
    prepared = prepare_ic_light(pipeline, reduced=True, number_of_images=2, width=320, highres_denoise=0.3)
    ours = drawn(pipeline, prepared)
    parts = baseline_ic_light.Parts(relighting.unet, torch.float32, relighting.vae, relighting.matting)
    first: list[torch.Tensor] = []
    with torch.inference_mode():
        final = baseline_ic_light.relight(parts, ic_light_request(relighting, prepared), first)
    pictures = prepared.params.number_of_images
    assert distance(first[0], torch.cat(ours[:pictures])) <= TOLERANCE
    # Between the passes pictures have 8 bits: what differs in rounding may differ by a level there.
    assert distance(final, torch.cat(ours[pictures:])) <= 10 * TOLERANCE
