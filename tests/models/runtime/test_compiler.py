"""Which dimensions a compiled graph leaves dynamic."""

from __future__ import annotations

import pytest
import torch

from models.runtime.compiler import Compiler, mark_dynamic
from tests.models.runtime.networks import Little, blend, graphs, little_inputs

EXAMPLES = little_inputs(2, 5, 7, 3), little_inputs(4, 6, 9, 8)


def test_dimensions_that_differ_are_dynamic() -> None:
    inputs = mark_dynamic(*EXAMPLES)
    picture, (_, pair) = inputs
    assert picture._dynamo_dynamic_indices == {0, 2, 3}
    assert pair.factor._dynamo_dynamic_indices == {0, 1}
    assert pair.term._dynamo_dynamic_indices == {0}


def test_the_examples_themselves_stay_as_they_are() -> None:
    picture, _ = mark_dynamic(*EXAMPLES)
    assert torch.equal(picture, EXAMPLES[0][0])
    assert not hasattr(EXAMPLES[0][0], "_dynamo_dynamic_indices")


def test_dynamic_dimensions_of_equal_size_are_refused() -> None:
    """The compiler would unify them."""
    with pytest.raises(ValueError, match="equal by accident"):
        mark_dynamic(little_inputs(2, 5, 5), little_inputs(2, 6, 9))


def test_a_dimension_of_size_one_cannot_be_dynamic() -> None:
    with pytest.raises(ValueError, match="below 2"):
        mark_dynamic(little_inputs(1), little_inputs(2))


def test_examples_of_two_structures_are_refused() -> None:
    picture, pairs = little_inputs()
    for other in ((picture, pairs[:1]), (picture.double(), pairs), (picture[0], pairs)):
        with pytest.raises(ValueError, match="same structure"):
            mark_dynamic((picture, pairs), other)


def test_every_compiled_variant_has_a_code_object_of_its_own() -> None:
    compiler, network, inputs = Compiler("eager"), Little(), little_inputs()
    first, second = (compiler.compiled(blend, dynamic=False) for _ in range(2))
    expected = blend(network, *inputs)[0]
    for count, variant in ((1, first), (1, first), (2, second), (2, second)):
        assert torch.equal(variant(network, *inputs)[0], expected)
        assert graphs() == count


def test_only_plain_functions_are_compiled() -> None:
    with pytest.raises(TypeError, match="plain functions"):
        Compiler("eager").compiled(Little(), dynamic=True)
