"""The UNets' evaluation compiles once for whatever is asked for."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from models.runtime.compiler import Compiler
from models.runtime.runner import Execution, Runner
from tests.models.runtime.networks import graphs, predict, sd15, sdxl, unet_inputs


@pytest.mark.slow
@pytest.mark.parametrize("build", [pytest.param(sdxl, marks=pytest.mark.slow), sd15])
def test_two_graphs_serve_a_hundred_shapes_and_a_second_checkpoint(build: Callable[[], Any]) -> None:
    choose = random.Random(7)
    first, second = build(), build()
    runner = Runner(predict, Execution(Compiler("eager"), stance="fail_on_recompile"))
    for fewest, more in ((2, 3), (1, 1)):
        runner.compile(first, unet_inputs(first, fewest, 10, 14, 5), unet_inputs(first, more, 13, 18, 8))
    assert graphs() == 2
    for number in range(100):
        height = choose.randint(5, 20)
        width = height if number % 5 == 0 else choose.randint(5, 20)
        unet = (first, second)[number % 2]
        inputs = unet_inputs(unet, choose.randint(1, 20), height, width, choose.choice((5, 8, 77)))
        noise = runner(unet, *inputs)
        assert noise.shape == (*inputs[0].shape[:1], 4, height, width)
    with torch.inference_mode():
        assert torch.equal(noise, predict(unet, *inputs))
        for name, tensor in first.state_dict().items():
            tensor.copy_(second.state_dict()[name])
        assert torch.equal(runner(first, *inputs), noise), "weights may be exchanged where they lie"
    assert graphs() == 2
    assert not counters["graph_break"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_inductors_kernels_compute_the_same() -> None:
    """On the CPU it needs a C++ compiler and a minute."""
    unet = sdxl()
    runner = Runner(predict, Execution(Compiler(), stance="fail_on_recompile"))
    runner.compile(unet, unet_inputs(unet, 2, 10, 14, 5), unet_inputs(unet, 3, 13, 18, 8))
    for sizes in ((2, 8, 8, 5), (4, 11, 7, 9)):
        inputs = unet_inputs(unet, *sizes)
        with torch.inference_mode():
            torch.testing.assert_close(runner(unet, *inputs), predict(unet, *inputs), rtol=1e-4, atol=1e-5)
    assert graphs() == 1
