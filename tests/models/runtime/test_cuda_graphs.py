"""Captured calls: what is copied into their buffers, and what is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.runtime.cuda_graphs import CapturedGraph
from models.runtime.tree import tree_leaves
from tests.models.runtime.fake_capturer import FakeGraphCapturer
from tests.models.runtime.networks import Little, Pair, blend, little_inputs

Inputs = tuple[Tensor, tuple[Pair, ...]]


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


class Watched:
    """`blend`, and what it was given last."""

    def __init__(self) -> None:
        self.network, self.seen = Little(), ()

    def __call__(self, *inputs):
        self.seen = inputs
        return blend(self.network, *inputs)

    def expected(self, inputs: Inputs) -> Tensor:
        return blend(self.network, *inputs)[0]


def test_a_replay_computes_anew_from_its_inputs() -> None:
    function, capturer = Watched(), FakeGraphCapturer()
    graph = CapturedGraph(function, little_inputs(), capturer)
    for times in range(1, 4):
        inputs = little_inputs()
        assert torch.equal(graph(inputs)[0], function.expected(inputs))
        assert (capturer.captured, capturer.replayed) == (1, times)


def test_the_function_never_sees_the_callers_memory() -> None:
    function, inputs = Watched(), little_inputs()
    graph = CapturedGraph(function, inputs, FakeGraphCapturer())
    addresses = [tensor.data_ptr() for tensor in tree_leaves(function.seen)]
    graph(inputs)
    assert [tensor.data_ptr() for tensor in tree_leaves(function.seen)] == addresses
    assert not set(addresses) & {tensor.data_ptr() for tensor in tree_leaves(inputs)}


def test_results_belong_to_the_caller() -> None:
    function, inputs = Watched(), little_inputs()
    graph = CapturedGraph(function, inputs, FakeGraphCapturer())
    first = graph(inputs)[0]
    kept = first.clone()
    graph(little_inputs())
    assert torch.equal(first, kept)
    first.zero_()
    assert torch.equal(graph(inputs)[0], kept)


def test_new_weights_in_old_memory_count() -> None:
    function, inputs = Watched(), little_inputs()
    graph = CapturedGraph(function, inputs, FakeGraphCapturer())
    before = graph(inputs)[0]
    function.network.load_state_dict(Little(seed=1).state_dict())
    assert not torch.equal(graph(inputs)[0], before)
    assert torch.equal(graph(inputs)[0], function.expected(inputs))


def test_a_tensor_that_was_written_into_is_copied_again() -> None:
    function, (picture, pairs) = Watched(), little_inputs()
    graph = CapturedGraph(function, (picture, pairs), FakeGraphCapturer())
    graph((picture, pairs))
    picture.mul_(2)
    assert torch.equal(graph((picture, pairs))[0], function.expected((picture, pairs)))


def copies(graph: CapturedGraph, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What a call copies into the graph's memory."""
    copied: list[Tensor] = []
    original = torch._foreach_copy_

    def watched(buffers: list[Tensor], tensors: list[Tensor]) -> None:
        copied.extend(tensors)
        original(buffers, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "_foreach_copy_", watched)
        graph(inputs)
    return copied


def test_what_did_not_change_is_not_copied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    function, (picture, pairs) = Watched(), little_inputs()
    graph = CapturedGraph(function, (picture, pairs), FakeGraphCapturer())
    graph(little_inputs())
    assert len(copies(graph, (picture, pairs), monkeypatch)) == 4
    assert [id(tensor) for tensor in copies(graph, (picture, pairs), monkeypatch)] == [id(picture)]
    # One tensor of one pair is another now, the tuples around it are all new.
    (fresh, _), changed = little_inputs()[1][0], pairs[1]
    inputs = (picture, (Pair(fresh, None), Pair(*changed)))
    assert [id(tensor) for tensor in copies(graph, inputs, monkeypatch)] == [id(picture), id(fresh)]
    assert torch.equal(graph(inputs)[0], function.expected(inputs))


def test_what_is_in_several_places_is_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def shared() -> Inputs:
        picture, (pair, _) = little_inputs()
        return picture, (pair, pair)

    function = Watched()
    graph = CapturedGraph(function, shared(), FakeGraphCapturer())
    inputs = shared()
    copied = copies(graph, inputs, monkeypatch)
    assert [id(tensor) for tensor in copied] == [id(inputs[0]), id(inputs[1][0].factor)]
    assert torch.equal(graph(inputs)[0], function.expected(inputs))


def test_inputs_that_were_one_tensor_when_captured_may_differ_later() -> None:
    def add(one: Tensor, two: Tensor) -> Tensor:
        return one + two

    one, two = torch.ones(3), torch.full((3,), 5.0)
    graph = CapturedGraph(add, (one, one), FakeGraphCapturer())
    assert torch.equal(graph((one, two)), one + two)


def test_after_a_copy_that_broke_off_everything_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    function, first, second = Watched(), little_inputs(), little_inputs()
    graph = CapturedGraph(function, first, FakeGraphCapturer())
    original = torch._foreach_copy_

    def break_off(buffers: list[Tensor], tensors: list[Tensor]) -> None:
        """Copy the picture, and of the pairs the first tensor."""
        original(buffers[:1], tensors[:1])
        if len(buffers) > 1:
            raise torch.OutOfMemoryError

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(torch, "_foreach_copy_", break_off)
        graph(second)
    assert torch.equal(graph(first)[0], function.expected(first))
