"""Comparisons: what passes, what fails, and that none of them raises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.parity.report import close, exact, failed, within


def test_the_largest_difference_is_shown():
    row = close("x", torch.tensor([1.0, 2.5]), np.array([1.0, 2.0]), rtol=0.0, atol=1.0)
    assert (row.name, row.difference, row.tolerance, row.passed) == ("x", 0.5, 1.0, True)


@pytest.mark.parametrize(("got", "passed"), [(100.9, True), (101.2, False), (99.1, True), (98.8, False)])
def test_the_tolerance_grows_with_the_golden_value(got: float, passed: bool):
    assert close("x", [got, 0.0], [100.0, 0.0], rtol=0.01, atol=0.1).passed is passed


@pytest.mark.parametrize(
    "got", [[1.0], [[1.0, 2.0]], [1.0, float("nan")], [1.0, float("inf")], ["a", "b"], None], ids=str
)
def test_what_cannot_be_compared_fails(got):
    for row in (close("x", got, [1.0, 2.0], 1.0, 1.0), within("x", got, [1.0, 2.0], 9.0, 9.0, 1.0)):
        assert not row.passed
        assert row.note
    assert not exact("x", got, [1.0, 2.0]).passed


def test_a_golden_value_that_is_no_number_fails():
    assert not close("x", [1.0], [float("nan")], 1.0, 1.0).passed


@pytest.mark.parametrize("value", [3, "text", None, [1, 2], [[1], [2, 3]], {"a": [1, None]}, [], torch.arange(4)])
def test_the_same_is_exact(value):
    assert exact("x", value, value).passed


@pytest.mark.parametrize(
    ("got", "golden"),
    [(3, 4), ("a", "b"), ([1, 2], [1, 3]), ([[1], [2, 3]], [[1], [2, 4]]), ({"a": 1}, {"a": 2}), (None, 1), ([], [1])],
)
def test_another_value_is_not_exact(got, golden):
    assert not exact("x", got, golden).passed


def test_exact_tensors_may_not_differ_in_a_bit():
    one = torch.ones(2)
    assert not exact("x", torch.nextafter(one, 2 * one), one).passed


def test_mean_and_share_are_bounded_beside_the_largest():
    golden = np.zeros(100)
    got = golden.copy()
    got[:5] = 2
    assert within("x", got, golden, 2).passed
    assert not within("x", got, golden, 1).passed
    assert within("x", got, golden, 2, mean_abs=0.1, share=0.05).passed
    assert not within("x", got, golden, 2, mean_abs=0.09).passed
    assert not within("x", got, golden, 2, share=0.04).passed


def test_a_wider_tolerance_forgives_what_is_close_but_not_what_is_exact():
    near = close("x", [1.5], [1.0], 0.0, 0.1)
    assert not near.passed
    assert near.relaxed(10).passed
    assert near.relaxed(10).tolerance == 1.0
    assert not exact("x", [1.5], [1.0]).relaxed(10).passed
    assert not failed("x", "broken").relaxed(10).passed
