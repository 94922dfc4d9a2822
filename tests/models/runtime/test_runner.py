"""Which way a call takes: replayed, compiled, or as the function stands; and that all of them agree."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from models.pipeline import Compile
from models.runtime.compiler import Compiler
from models.runtime.cuda_graphs import CudaRecorder
from models.runtime.runner import EAGER, Execution, Runner, execution_for
from tests.models.runtime.networks import Little, blend, graphs, little_inputs
from tests.models.runtime.recorder import PlayedRecorder

EXAMPLES = little_inputs(2, 5, 7, 3), little_inputs(4, 6, 9, 8)
STRICT = Execution(Compiler("eager"), stance="fail_on_recompile")


class CountingBackend:
    """Compiles nothing, and counts how often what it compiled is run."""

    def __init__(self) -> None:
        self.ran = 0

    def __call__(self, graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Any:
        def run(*inputs: torch.Tensor) -> Any:
            self.ran += 1
            return graph(*inputs)

        return run


def broken_backend(_graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Any:
    raise RuntimeError("no C compiler here")


def check(runner: Runner[Any], network: Little, inputs: Any) -> None:
    """The runner gives what the function gives."""
    with torch.inference_mode():
        torch.testing.assert_close(runner(network, *inputs), blend(network, *inputs))


def test_eager_runs_call_the_function() -> None:
    runner = Runner(blend, EAGER)
    runner.compile(Little(), *EXAMPLES)
    runner.capture(Little(), *EXAMPLES[0])
    check(runner, Little(), little_inputs(1, 3, 3))
    assert graphs() == 0
    assert runner(Little(), *EXAMPLES[0])[0].is_inference()


def test_one_graph_serves_all_sizes_and_networks() -> None:
    runner = Runner(blend, STRICT)
    runner.compile(Little(), *EXAMPLES)
    for sizes in ((2, 5, 7, 3), (3, 8, 8, 8), (30, 2, 40, 77), (2, 3, 2, 2)):
        for network in (Little(1), Little(2)):
            check(runner, network, little_inputs(*sizes))
    assert graphs() == 1


def test_a_call_for_one_row_has_a_graph_of_its_own() -> None:
    runner = Runner(blend, STRICT)
    runner.compile(Little(), *EXAMPLES)
    runner.compile(Little(), little_inputs(1, 5, 7, 3), little_inputs(1, 6, 9, 8))
    check(runner, Little(), little_inputs(1, 11, 4))
    check(runner, Little(), little_inputs(2, 11, 4))
    assert graphs() == 2


def test_layout_and_origin_of_inputs_do_not_matter() -> None:
    """Made outside of inference mode, turned, repeated: one graph serves them all."""
    runner = Runner(blend, STRICT)
    runner.compile(Little(), *EXAMPLES)
    picture, pairs = little_inputs()
    for changed in (picture.to(memory_format=torch.channels_last), picture[:1].expand(2, -1, -1, -1), picture.mT):
        check(runner, Little(), (changed, pairs))
    network = Little()
    with torch.inference_mode():
        check(runner, network, (picture + 1, pairs))
    assert graphs() == 1


def test_nothing_is_compiled_for_a_call() -> None:
    """What was not foreseen runs as the function stands; what comes after it is not the slower for it."""
    backend = CountingBackend()
    runner = Runner(blend, Execution(Compiler(backend)))
    runner.compile(Little(), *EXAMPLES)
    compiled, ran = graphs(), backend.ran
    check(runner, Little(), little_inputs(1))
    check(runner, Little(), (little_inputs()[0], little_inputs()[1][:1]))
    assert (graphs(), backend.ran) == (compiled, ran)
    check(runner, Little(), little_inputs(6))
    assert (graphs(), backend.ran) == (compiled, ran + 1)


def test_before_anything_is_compiled_calls_compile_nothing() -> None:
    check(Runner(blend, STRICT), Little(), little_inputs())
    assert graphs() == 0


def test_a_strict_runner_tells_what_was_not_foreseen() -> None:
    runner = Runner(blend, STRICT)
    runner.compile(Little(), *EXAMPLES)
    with pytest.raises(RuntimeError, match="recompile"):
        runner(Little(), *little_inputs(1))


def test_a_compiler_that_fails_is_named_once_and_done_without(caplog: pytest.LogCaptureFixture) -> None:
    recorder = PlayedRecorder()
    runner = Runner(blend, Execution(Compiler(broken_backend), recorder))
    network = Little()
    with caplog.at_level(logging.WARNING):
        runner.compile(network, *EXAMPLES)
        runner.compile(network, little_inputs(1, 5, 7, 3), little_inputs(1, 6, 9, 8))
        runner.capture(network, *EXAMPLES[0])
    (record,) = caplog.records
    assert "blend runs uncompiled" in record.message
    assert "no C compiler here" in record.message
    check(runner, network, little_inputs())
    check(runner, network, little_inputs(1))
    assert recorder.replayed == 1, "recording needs no compiler"


def fixing(network: Little, picture: torch.Tensor) -> torch.Tensor:
    """A function whose graph serves one width only."""
    return network.convolution(picture) * (2 if picture.shape[3] == 7 else 3)


def test_a_graph_that_does_not_serve_both_examples_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    runner, network = Runner(fixing, STRICT), Little()
    runner.compile(network, (torch.ones(2, 4, 5, 7),), (torch.ones(3, 4, 6, 8),))
    assert "fixing runs uncompiled" in caplog.text
    picture = torch.ones(3, 4, 6, 8)
    assert torch.equal(runner(network, picture), fixing(network, picture))


def test_recorded_sizes_are_replayed_and_others_are_not() -> None:
    recorder, network = PlayedRecorder(), Little()
    runner = Runner(blend, Execution(record=recorder))
    runner.capture(network, *little_inputs(2, 5, 7))
    runner.capture(network, *little_inputs(2, 8, 8))
    runner.capture(network, *little_inputs(2, 5, 7))
    assert recorder.recorded == 2
    for count, sizes in ((1, (2, 5, 7)), (2, (2, 8, 8)), (2, (2, 7, 5)), (2, (4, 5, 7)), (3, (2, 5, 7))):
        check(runner, network, little_inputs(*sizes))
        assert recorder.replayed == count
    assert recorder.recorded == 2


def test_a_recording_in_which_tensors_are_one_is_not_for_others() -> None:
    recorder, network, (picture, pairs) = PlayedRecorder(), Little(), little_inputs()
    runner, shared = Runner(blend, Execution(record=recorder)), (pairs[1], pairs[1])
    runner.capture(network, picture, shared)
    check(runner, network, (picture, (pairs[1], pairs[1]._replace(factor=pairs[0].factor))))
    assert recorder.replayed == 0
    check(runner, network, (picture, shared))
    assert recorder.replayed == 1


def test_a_recording_is_for_one_network() -> None:
    recorder, first, second = PlayedRecorder(), Little(1), Little(2)
    runner, inputs = Runner(blend, Execution(record=recorder)), little_inputs()
    runner.capture(first, *inputs)
    check(runner, second, inputs)
    assert recorder.replayed == 0
    runner.capture(second, *inputs)
    check(runner, first, inputs)
    check(runner, second, inputs)
    assert recorder.replayed == 2


def test_what_is_recorded_is_compiled_for_its_sizes_once() -> None:
    backend, recorder = CountingBackend(), PlayedRecorder()
    runner = Runner(blend, Execution(Compiler(backend), recorder, "fail_on_recompile"))
    for network in (Little(1), Little(2)):
        runner.capture(network, *little_inputs())
        assert graphs() == 1
        ran = backend.ran
        check(runner, network, little_inputs())
        assert backend.ran == ran + 1
    runner.compile(Little(), *EXAMPLES)
    check(runner, Little(), little_inputs(3))
    assert graphs() == 2


def test_without_a_recording_requests_are_served(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(run: Any) -> Any:
        raise torch.OutOfMemoryError("no room for a graph")

    runner = Runner(blend, Execution(record=refuse))
    runner.capture(Little(), *little_inputs())
    assert "blend cannot be recorded: OutOfMemoryError: no room for a graph" in caplog.text
    check(runner, Little(), little_inputs())


@pytest.mark.parametrize(
    ("device", "chosen", "compiles", "records"),
    [
        ("cpu", "auto", False, False),
        ("cpu", "off", False, False),
        ("cpu", "on", True, False),
        ("cuda", "auto", True, True),
        ("cuda:1", "off", False, True),
        ("cuda", "on", True, True),
        ("cuda", "max", True, True),
    ],
)
def test_what_the_operators_choice_means(device: str, chosen: Compile, compiles: bool, records: bool) -> None:
    execution = execution_for(torch.device(device), chosen)
    assert (execution.compiler is not None) is compiles
    assert isinstance(execution.record, CudaRecorder) is records
    assert execution.stance == "eager_on_recompile"
    if execution.compiler is not None:
        assert execution.compiler.backend == "inductor"
        assert ("max-autotune" in execution.compiler.mode) is (chosen == "max")
