"""The small part of the lowering: one target, few layers; and that the checks find mistakes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.lowering.counts import Count, differences, read_counts
from tests.lowering.reports import Report, output_of, unfit_torch

pytestmark = [
    pytest.mark.slow,  # minutes of compiling
    pytest.mark.skipif(unfit_torch() is not None, reason=unfit_torch() or ""),
    pytest.mark.timeout(1800),
]
Outcomes = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """What `tests.lowering.small` found, by case."""
    lines = map(json.loads, output_of("tests.lowering.small", "h200"))
    return {line["case"]: line for line in lines}


def report_of(outcomes: Outcomes, case: str) -> Report:
    return Report.model_validate(outcomes[case]["report"])


def test_few_layers_with_identity_are_lowered(outcomes: Outcomes) -> None:
    report = report_of(outcomes, "UNet")
    assert report.problems == []
    (count,) = report.counts
    # Four transformer layers, of more than twenty launches each, and seven residual blocks.
    assert count.graph == "static" and count.launches > 100
    assert differences(report.counts, read_counts().rows) == []


def test_kernels_for_any_size_and_for_one_are_compiled_for_the_target(outcomes: Outcomes) -> None:
    report = report_of(outcomes, "none")
    assert report.problems == []
    assert [(count.graph, count.attention) for count in report.counts] == [
        ("dynamic", {"flash 64": 1}),
        ("dynamic", {"flash 64": 1}),
        ("static", {"flash 64": 1}),
    ]


def test_a_graph_break_is_found(outcomes: Outcomes) -> None:
    assert "graph_break" in outcomes["graph break"]["error"]


def test_a_second_graph_for_another_size_is_found(outcomes: Outcomes) -> None:
    assert "recompile" in outcomes["branch by size"]["error"]


def test_weights_that_are_not_channels_last_are_found(outcomes: Outcomes) -> None:
    problems = "\n".join(report_of(outcomes, "contiguous").problems)
    assert "not channels-last" in problems
    assert "weights converted or copied, 1 times: triton_poi_fused_convolution_1 reads convolution.weight" in problems


def test_attention_that_is_left_to_cudnn_is_found(outcomes: Outcomes) -> None:
    problems = report_of(outcomes, "cuDNN's attention").problems
    assert problems
    assert all("attention that is planned for every shape, 1 times: cudnn 64" in problem for problem in problems)


def test_one_more_launch_is_found(outcomes: Outcomes) -> None:
    before, after = (report_of(outcomes, case).counts for case in ("none", "one more launch"))
    named: list[Count] = [count.model_copy(update={"function": "plain"}) for count in after]
    words = differences(named, before)
    assert len(words) == 3
    assert all("launches rose" in line and "--write" in line for line in words)
