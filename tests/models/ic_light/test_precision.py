"""Pictures in the precisions that a CPU serves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.ic_light.networks import Networks
from models.ic_light.options import Options
from models.ic_light.params import Params
from models.ic_light.pipeline import IcLight, load
from models.weights.installed import WeightSet

CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_picture_in_bfloat16_is_nearly_that_in_float32_and_repeats(
    weights: WeightSet, networks: Networks, astronaut: bytes
) -> None:
    params = Params(subject_image="-", prompt="a lamp", seed=3, width=256, height=256, steps=1, highres_scale=1)

    def draw(pipeline: IcLight) -> np.ndarray:
        (picture,) = pipeline.run([pipeline.prepare(params, {"subject_image": astronaut})], lambda _step, _total: None)
        return picture.astype(int)

    low = load(weights, CPU, Options(cpu_precision="bfloat16"))
    assert {p.dtype for p in (*low._networks.unet.parameters(), *low._networks.vae.parameters())} == {torch.bfloat16}
    assert {p.dtype for p in low._networks.matting.network.parameters()} == {torch.float32}
    full, first = draw(IcLight(networks)), draw(low)
    assert load(weights, CPU, Options())._networks.unet.dtype == torch.float32, "demo weights are served in float32"
    assert np.array_equal(draw(low), first), "the same request gives the same picture"
    assert 0 < np.abs(first - full).mean() < 4
