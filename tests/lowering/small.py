"""What the default suite lowers: pulid-lightning's UNet with few layers, and two layers with and without mistakes.

`python -m tests.lowering.small TARGET` prints a line of JSON per case: its name, and a `Report` or an error's text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Final
from unittest.mock import patch

import torch
from torch import Tensor, nn

from models.errors import CompilationFailed
from models.runtime.compiler import Compiler
from models.runtime.runner import Execution, Runner
from models.runtime.tree import Pytree
from models.runtime.unet import attention
from tests.lowering.lowering import Layout, as_loaded, served_precision
from tests.lowering.measure import lower
from tests.lowering.targets import TARGETS
from tests.lowering.warm_ups import WarmUpCall, pipeline_of, warm_up_calls
from workers.engine.model_loader import set_up_cuda

SetUp = Callable[[torch.device], None]
_SIDE: Final = 8


class Pair(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(4, 64, 3, padding=1), nn.Linear(64, 64)


def plain(network: Pair, picture: Tensor, text: Tensor) -> Tensor:
    """Attend from the pixels of a picture [rows, 4, h, w] to a text [rows, tokens, 64]."""
    pixels = network.convolution(picture).flatten(2).transpose(1, 2)
    return attention(network.linear(pixels), text, text, heads=1)


def with_graph_break(network: Pair, picture: Tensor, text: Tensor) -> Tensor:
    """The same with something that the compiler cannot trace."""
    torch._dynamo.graph_break()
    return plain(network, picture, text)


def with_branch_by_size(network: Pair, picture: Tensor, text: Tensor) -> Tensor:
    """The same with another branch for large pictures, which needs a graph of its own."""
    return plain(network, picture if picture.shape[2] > _SIDE else -picture, text)


def with_one_more_launch(network: Pair, picture: Tensor, text: Tensor) -> Tensor:
    """The same with one more matrix product."""
    return network.linear(plain(network, picture, text))


def keep_layout(network: Any, _device: torch.device) -> Any:
    """Leave the weights as they are."""
    return network


def leave_cudnn_on(_device: torch.device) -> None:
    """What `set_up_cuda` prevents."""
    torch.backends.cuda.enable_cudnn_sdp(True)


MISTAKES: Final[dict[str, tuple[Callable[..., Any], Layout, SetUp]]] = {
    "none": (plain, as_loaded, set_up_cuda),
    "graph break": (with_graph_break, as_loaded, set_up_cuda),
    "branch by size": (with_branch_by_size, as_loaded, set_up_cuda),
    "one more launch": (with_one_more_launch, as_loaded, set_up_cuda),
    "contiguous": (plain, keep_layout, set_up_cuda),
    "cuDNN's attention": (plain, as_loaded, leave_cudnn_on),
}


def calls(function: Callable[..., Any]) -> list[WarmUpCall]:
    """To compile the function for any size, to call it in a third size, and to capture it in that one."""
    with torch.device("meta"):
        network, runner = Pair().half().eval(), Runner(function, Execution(Compiler()))

    def inputs(rows: int, height: int, width: int, tokens: int) -> tuple[Pytree, ...]:
        with torch.device("meta"):
            shapes = (rows, 4, height, width), (rows, tokens, 64)
            return tuple(torch.empty(shape, dtype=torch.float16) for shape in shapes)

    small, large, third = inputs(2, 5, 7, 3), inputs(6, 9, 11, 8), inputs(4, 10, 16, 13)
    return [
        WarmUpCall(runner, "compile", network, (small, large)),
        WarmUpCall(runner, "call", network, (third,)),
        WarmUpCall(runner, "capture", network, (third,)),
    ]


def main(target_name: str) -> None:
    """All cases, one after the other."""
    target = TARGETS[target_name]
    pipeline = pipeline_of("pulid-lightning", "reduced", served_precision(target))
    captured = [call for call in warm_up_calls(pipeline) if call.name == "predict_noise:capture"]
    report = lower(captured, target, assemble=False, network="reduced", model="pulid-lightning")
    _tell("UNet", report=report.model_dump())
    for name, (function, layout, set_up) in MISTAKES.items():
        try:
            with patch("tests.lowering.lowering.set_up_cuda", set_up):
                report = lower(calls(function), target, layout=layout, network="reduced", model="pulid-lightning")
        except CompilationFailed as error:
            _tell(name, error=str(error))
        else:
            _tell(name, report=report.model_dump())


def _tell(case: str, **outcome: object) -> None:
    print(json.dumps({"case": case, **outcome}), flush=True)  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main(*sys.argv[1:])
