"""Our pipelines against the baselines, which compute the same from the specifications by other means."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bench.counts.tracing import decoded_latents, recorded_calls
from bench.full_size import baseline_ic_light as plain_b
from bench.full_size import baseline_pulid as plain_a
from bench.full_size.networks import ic_light_parts, ic_light_pipeline, pulid_parts, pulid_pipeline
from bench.full_size.workloads import distance, ignore_step, portrait, prepare_portrait, prepare_scene, scene

CPU = torch.device("cpu")
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def portrait_parts():
    torch.manual_seed(0)
    return pulid_parts(CPU, reduced=True)


@pytest.fixture(scope="module")
def scene_parts():
    torch.manual_seed(1)
    return ic_light_parts(CPU, reduced=True)


def drawn(pipeline, prepared) -> list[torch.Tensor]:
    """Latents that our pipeline decodes."""
    with recorded_calls() as calls:
        pipeline.run([prepared], ignore_step)
    return decoded_latents(calls)


@pytest.mark.parametrize(
    ("way", "wide", "changes"),
    [(plain_a.separate, True, {}), (plain_a.batched, False, {"number_of_images": 2, "width": 320})],
)
def test_a_portrait_is_that_of_both_baselines(portrait_parts, way: Callable, wide: bool, changes: dict):
    pipeline = pulid_pipeline(portrait_parts)
    prepared = prepare_portrait(pipeline, reduced=True, **changes)
    ours = torch.cat(drawn(pipeline, prepared))
    plain_a.install(portrait_parts.unet, portrait_parts.projections, wide)
    request = portrait(portrait_parts, prepared)
    with torch.inference_mode():
        latents = plain_a.draw_latents(way(portrait_parts.unet, request), request)
        pictures = plain_a.decode(portrait_parts.vae, latents)
    assert distance(latents, ours) <= TOLERANCE
    assert pictures.shape == (request.pictures, request.size[1], request.size[0], 3)


def test_the_baselines_see_the_face(portrait_parts):
    pipeline = pulid_pipeline(portrait_parts)
    request = portrait(portrait_parts, prepare_portrait(pipeline, reduced=True))
    plain_a.install(portrait_parts.unet, portrait_parts.projections, wide=False)
    other = plain_a.Portrait(**{**vars(request), "identity": request.identity.flip(0)})
    with torch.inference_mode():
        first, second = (
            plain_a.draw_latents(plain_a.batched(portrait_parts.unet, seen), seen) for seen in (request, other)
        )
    assert distance(second, first) > 10 * TOLERANCE


def test_a_scene_is_that_of_the_baseline(scene_parts):
    pipeline = ic_light_pipeline(scene_parts)
    prepared = prepare_scene(pipeline, reduced=True, number_of_images=2, width=320, highres_denoise=0.3)
    ours = drawn(pipeline, prepared)
    parts = plain_b.Parts(scene_parts.unet, torch.float32, scene_parts.vae, scene_parts.matting)
    first: list[torch.Tensor] = []
    with torch.inference_mode():
        final = plain_b.relight(parts, scene(scene_parts, prepared), first)
    pictures = prepared.params.number_of_images
    assert distance(first[0], torch.cat(ours[:pictures])) <= TOLERANCE
    # Between the passes pictures have 8 bits: what differs in rounding may differ by a level there.
    assert distance(final, torch.cat(ours[pictures:])) <= 10 * TOLERANCE
