"""Counts are held against the committed table, and attention follows torch's rules."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.lowering.attention import backend_for
from tests.lowering.counts import Count, combinations, differences, merged, read_counts
from tests.lowering.reports import unfit_torch
from tests.lowering.targets import TARGETS

COUNT = Count(
    network="reduced",
    target="h200",
    model="ic-light",
    function="predict_noise",
    graph="static",
    sizes="2x8x80x64",
    kernels=100,
    launches=500,
    attention={"flash 40": 10},
    peak_mib=100.0,
)


def changed(**changes: Any) -> Count:
    return COUNT.model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"launches": 525, "kernels": 105, "peak_mib": 95.0}, None),
        ({"launches": 526}, "launches rose from 500 to 526"),
        ({"launches": 474}, "launches fell from 500 to 474"),
        ({"kernels": 106}, "kernels rose from 100 to 106"),
        ({"peak_mib": 105.1}, "peak_mib rose from 100 to 105.1"),
        ({"attention": {"flash 40": 9, "math 40": 1}}, "attention was {'flash 40': 10}"),
        ({"sizes": "2x8x96x64"}, "is not in the table"),
    ],
)
def test_what_differs_from_the_table_is_told(changes: dict[str, Any], words: str | None) -> None:
    found = differences([changed(**changes)], [COUNT])
    if words is None:
        assert found == []
    else:
        assert words in found[0]
        assert "python -m tests.lowering --write" in found[0]


def test_a_row_that_is_gone_is_told_and_rows_of_others_are_not() -> None:
    other, gone = changed(target="t4"), changed(sizes="2x8x120x96")
    (words,) = differences([COUNT], [COUNT, other, gone])
    assert "2x8x120x96" in words and "is not measured any more" in words


def test_what_was_measured_replaces_its_rows_alone() -> None:
    other, stale, new = changed(target="t4"), changed(sizes="2x8x120x96"), changed(launches=400)
    assert merged([COUNT, other, stale], [new]) == [other, new]


def test_the_calls_to_repeat_follow_from_the_rows() -> None:
    rows = [COUNT, changed(graph="dynamic", function="decode_picture"), changed(target="t4")]
    assert combinations(rows) == {
        ("reduced", "h200", "ic-light"): ["decode_picture:call", "decode_picture:compile", "predict_noise:capture"],
        ("reduced", "t4", "ic-light"): ["predict_noise:capture"],
    }


def test_the_table_is_of_the_locked_torch() -> None:
    table = read_counts()
    assert table.torch == torch.__version__.partition("+")[0] or unfit_torch() is not None
    assert len({row.key for row in table.rows}) == len(table.rows) > 0


@pytest.mark.parametrize(
    ("target", "dtype", "width", "value_width", "bias", "backend"),
    [
        ("h200", torch.float16, 64, 64, False, "flash"),
        ("a100", torch.bfloat16, 40, 40, False, "flash"),
        ("l4", torch.float16, 160, 160, False, "flash"),
        ("4090", torch.float16, 12, 12, False, "flash"),  # padded to 16
        ("h200", torch.float16, 64, 64, True, "efficient"),
        ("h200", torch.bfloat16, 512, 512, False, "efficient"),
        ("h200", torch.float16, 640, 8, False, "efficient"),
        ("h200", torch.float32, 64, 64, False, "efficient"),
        ("h200", torch.float16, 12, 12, True, "math"),
        ("t4", torch.float16, 64, 64, False, "efficient"),
        ("t4", torch.bfloat16, 64, 64, False, "math"),
        ("t4", torch.float32, 6, 6, False, "efficient"),
    ],
)
def test_attention_is_chosen_by_the_rules_of_torch(
    target: str, dtype: torch.dtype, width: int, value_width: int, bias: bool, backend: str
) -> None:
    query, value = (torch.empty(1, 1, 8, size, dtype=dtype, device="meta") for size in (width, value_width))
    assert backend_for(TARGETS[target], query, value, query if bias else None, cudnn=False) == backend


def test_cudnn_would_take_what_it_can_on_hopper_alone() -> None:
    narrow, wide = (torch.empty(1, 1, 8, width, dtype=torch.float16, device="meta") for width in (64, 512))
    assert backend_for(TARGETS["h200"], narrow, narrow, narrow, cudnn=True) == "cudnn"
    assert backend_for(TARGETS["h200"], wide, wide, None, cudnn=True) == "efficient"
    assert backend_for(TARGETS["4090"], narrow, narrow, None, cudnn=True) == "flash"
