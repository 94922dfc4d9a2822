"""What an evaluation launches is counted as its operators run."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.lowering.evaluations import Recorder


def halves(x: Tensor) -> Tensor:
    """Two matrix products and two copies, whatever the size."""
    result = torch.empty_like(x)
    for part, place in zip(x.chunk(2), result.chunk(2), strict=True):
        place.copy_(part.T @ part)
    return result


def test_views_and_allocations_launch_nothing() -> None:
    x = torch.empty(4, 6, device="meta")
    recorder = Recorder(False, [x], {})
    with recorder:
        torch.relu(x.T.unflatten(0, (2, 3))[0]).add_(1)
        torch.empty_strided((3, 4), (4, 1), device="meta")
    assert recorder.evaluation.library == {"relu": 1, "add_": 1}
    assert recorder.evaluation.launches == 2


def test_an_operator_of_the_projects_own_launches_what_it_calls() -> None:
    operator = torch.library.custom_op("facelight_tests::halves", halves, mutates_args=())
    operator.register_fake(torch.empty_like)
    x = torch.empty(4, 2, device="meta")
    recorder = Recorder(False, [x], {})
    with recorder:
        torch.ops.facelight_tests.halves(x)
    assert recorder.evaluation.library == {"mm": 2, "copy_": 2}
