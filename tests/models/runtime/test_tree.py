"""Inputs as trees of tensors."""

from __future__ import annotations

import pytest
import torch

from models.runtime.tree import input_signature, to_inference_contiguous, tree_leaves, tree_map
from tests.models.runtime.networks import Pair

ONE, TWO = torch.zeros(2, 3), torch.ones(4)


def test_leaves_come_in_order_and_none_is_no_leaf() -> None:
    found = list(tree_leaves((ONE, None, Pair(TWO, None), ())))
    assert [id(tensor) for tensor in found] == [id(ONE), id(TWO)]


def test_a_mapped_value_keeps_its_structure() -> None:
    (pair, nothing, plain_tuple) = tree_map(lambda tensor: tensor + 1, (Pair(ONE, None), None, (TWO,)))
    assert isinstance(pair, Pair)
    assert torch.equal(pair.factor, ONE + 1)
    assert pair.term is None
    assert nothing is None
    assert type(plain_tuple) is tuple
    assert torch.equal(plain_tuple[0], TWO + 1)


@pytest.mark.parametrize(
    "other",
    [
        (ONE,),
        (ONE, None, None),
        (ONE.double(), None),
        (ONE.T, None),
        (torch.zeros(2, 4), None),
        (ONE.to("meta"), None),
        Pair(ONE, None),
    ],
)
def test_a_signature_tells_apart(other: tuple[object, ...]) -> None:
    assert input_signature(other) != input_signature((ONE, None))


def test_a_signature_tells_whether_tensors_are_one() -> None:
    other = ONE.clone()
    assert input_signature((ONE, ONE)) != input_signature((ONE, other))
    assert input_signature((ONE, ONE)) == input_signature((other, other))
    assert input_signature((ONE, Pair(TWO, ONE))) == input_signature((other, Pair(TWO, other)))


def test_what_is_one_tensor_stays_one() -> None:
    first, (second, third) = tree_map(lambda tensor: tensor + 1, (ONE, Pair(ONE, TWO)))
    assert first is second
    assert first is not third


def test_a_signature_does_not_look_at_numbers_and_layout() -> None:
    turned = torch.ones(3, 2).T
    assert turned.shape == ONE.shape
    assert input_signature((turned, None)) == input_signature((ONE, None))


@pytest.mark.parametrize("value", [3, 0.5, [ONE], {"one": ONE}, "word"])
def test_only_tensors_are_inputs(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        input_signature((ONE, value))
    with pytest.raises(TypeError, match=type(value).__name__):
        list(tree_leaves((ONE, value)))


def test_plain_tensors_are_contiguous_and_made_in_inference_mode() -> None:
    with torch.inference_mode():
        made_here = torch.ones(2, 2)
        for tensor in (ONE, ONE.T, made_here.T, ONE[:1].expand(5, 3)):
            found = to_inference_contiguous(tensor)
            assert torch.equal(found, tensor)
            assert found.is_contiguous()
            assert found.is_inference()
        assert to_inference_contiguous(made_here) is made_here
