"""Which execution mode a call takes (captured, compiled, eager), and that all of them agree."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from models.errors import CompilationFailed
from models.options import Compile
from models.pipeline import ExecutionReport
from models.runtime.compiler import Compiler
from models.runtime.cuda_graphs import CudaGraphCapturer
from models.runtime.runner import EAGER, Execution, Runner, execution_for, execution_report
from tests.models.runtime.fake_capturer import FakeGraphCapturer
from tests.models.runtime.networks import Little, blend, graphs, little_inputs

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


def test_eager_execution_calls_the_function() -> None:
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


def test_memory_layout_and_origin_of_inputs_do_not_matter() -> None:
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


def test_a_call_never_compiles() -> None:
    """Inputs that were not warmed up run eagerly, and later calls still use the compiled graph."""
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


def test_a_strict_runner_raises_for_inputs_that_were_not_warmed_up() -> None:
    runner = Runner(blend, STRICT)
    runner.compile(Little(), *EXAMPLES)
    with pytest.raises(RuntimeError, match="recompile"):
        runner(Little(), *little_inputs(1))


def test_a_failing_compiler_is_logged_once_and_execution_falls_back_to_eager(caplog: pytest.LogCaptureFixture) -> None:
    capturer = FakeGraphCapturer()
    runner = Runner(blend, Execution(Compiler(broken_backend), capturer))
    network = Little()
    with caplog.at_level(logging.WARNING):
        runner.compile(network, *EXAMPLES)
        runner.compile(network, little_inputs(1, 5, 7, 3), little_inputs(1, 6, 9, 8))
        runner.capture(network, *EXAMPLES[0])
    (record,) = caplog.records
    assert "blend cannot be compiled" in record.message
    assert "no C compiler here" in record.message
    assert runner.fallbacks == [record.message]
    assert execution_report(runner) == ExecutionReport("captured", record.message)
    check(runner, network, little_inputs())
    check(runner, network, little_inputs(1))
    assert capturer.replayed == 1, "capturing needs no compiler"


def test_a_failing_compiler_is_an_error_where_compiling_is_required() -> None:
    runner = Runner(blend, Execution(Compiler(broken_backend), required=True))
    with pytest.raises(CompilationFailed, match=r"blend cannot be compiled: .*no C compiler here"):
        runner.compile(Little(), *EXAMPLES)


def test_a_failing_capture_is_an_error_where_it_is_required() -> None:
    def refuse(run: Any) -> Any:
        raise torch.OutOfMemoryError("no room for a graph")

    runner = Runner(blend, Execution(capturer=refuse, required=True))
    with pytest.raises(CompilationFailed, match="blend cannot be captured: OutOfMemoryError: no room for a graph"):
        runner.capture(Little(), *little_inputs())


def test_the_report_has_the_mode_of_the_steps_and_the_fallbacks_of_all() -> None:
    execution, network = Execution(Compiler("eager"), FakeGraphCapturer()), Little()
    steps, other = Runner(blend, execution), Runner(blend, Execution(Compiler(broken_backend)))
    assert execution_report(steps, other) == ExecutionReport("eager")
    steps.compile(network, *EXAMPLES)
    assert execution_report(steps, other) == ExecutionReport("compiled")
    steps.capture(network, *little_inputs())
    assert execution_report(steps, other) == ExecutionReport("captured")
    other.compile(network, *EXAMPLES)
    report = execution_report(steps, other)
    assert report.mode == "captured"
    assert "blend cannot be compiled" in report.fallback


def fixing(network: Little, picture: torch.Tensor) -> torch.Tensor:
    """A function whose graph serves one width only."""
    return network.convolution(picture) * (2 if picture.shape[3] == 7 else 3)


def test_a_graph_that_does_not_serve_both_examples_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    runner, network = Runner(fixing, STRICT), Little()
    runner.compile(network, (torch.ones(2, 4, 5, 7),), (torch.ones(3, 4, 6, 8),))
    assert "fixing cannot be compiled" in caplog.text
    picture = torch.ones(3, 4, 6, 8)
    assert torch.equal(runner(network, picture), fixing(network, picture))


def test_captured_shapes_are_replayed_and_others_are_not() -> None:
    capturer, network = FakeGraphCapturer(), Little()
    runner = Runner(blend, Execution(capturer=capturer))
    runner.capture(network, *little_inputs(2, 5, 7))
    runner.capture(network, *little_inputs(2, 8, 8))
    runner.capture(network, *little_inputs(2, 5, 7))
    assert capturer.captured == 2
    for count, sizes in ((1, (2, 5, 7)), (2, (2, 8, 8)), (2, (2, 7, 5)), (2, (4, 5, 7)), (3, (2, 5, 7))):
        check(runner, network, little_inputs(*sizes))
        assert capturer.replayed == count
    assert capturer.captured == 2


def test_a_graph_captured_with_aliased_inputs_serves_no_others() -> None:
    capturer, network, (picture, pairs) = FakeGraphCapturer(), Little(), little_inputs()
    runner, shared = Runner(blend, Execution(capturer=capturer)), (pairs[1], pairs[1])
    runner.capture(network, picture, shared)
    check(runner, network, (picture, (pairs[1], pairs[1]._replace(factor=pairs[0].factor))))
    assert capturer.replayed == 0
    check(runner, network, (picture, shared))
    assert capturer.replayed == 1


def test_a_captured_graph_is_for_one_network() -> None:
    capturer, first, second = FakeGraphCapturer(), Little(1), Little(2)
    runner, inputs = Runner(blend, Execution(capturer=capturer)), little_inputs()
    runner.capture(first, *inputs)
    check(runner, second, inputs)
    assert capturer.replayed == 0
    runner.capture(second, *inputs)
    check(runner, first, inputs)
    check(runner, second, inputs)
    assert capturer.replayed == 2


def test_what_is_captured_is_compiled_for_its_shapes_once() -> None:
    backend, capturer = CountingBackend(), FakeGraphCapturer()
    runner = Runner(blend, Execution(Compiler(backend), capturer, "fail_on_recompile"))
    for network in (Little(1), Little(2)):
        runner.capture(network, *little_inputs())
        assert graphs() == 1
        ran = backend.ran
        check(runner, network, little_inputs())
        assert backend.ran == ran + 1
    runner.compile(Little(), *EXAMPLES)
    check(runner, Little(), little_inputs(3))
    assert graphs() == 2


def without_bias() -> Little:
    """A network of the same shapes that a graph of `Little()` does not serve."""
    network = Little(3)
    network.linear = torch.nn.Linear(6, 4, bias=False)
    return network


def test_a_network_that_a_graph_does_not_serve_is_compiled_before_it_is_captured() -> None:
    backend, capturer = CountingBackend(), FakeGraphCapturer()
    runner, inputs = Runner(blend, Execution(Compiler(backend), capturer)), little_inputs()
    first, second = Little(1), without_bias()
    runner.capture(first, *inputs)
    assert graphs() == 1
    runner.capture(second, *inputs)
    assert graphs() == 2
    for network in (first, second, first):
        ran = backend.ran
        check(runner, network, inputs)
        assert backend.ran == ran + 1, "the captured function is the compiled one"
    assert runner.fallbacks == []


def test_a_network_that_cannot_be_compiled_is_captured_eagerly_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    backend, capturer = CountingBackend(), FakeGraphCapturer()
    backends = iter((backend, broken_backend))

    def once(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        return next(backends)(graph, inputs)

    runner, inputs = Runner(blend, Execution(Compiler(once), capturer)), little_inputs()
    runner.capture(Little(1), *inputs)
    assert runner.fallbacks == []
    runner.capture(second := without_bias(), *inputs)
    assert "blend cannot be compiled" in execution_report(runner).fallback
    assert "no C compiler here" in caplog.text
    ran = backend.ran
    check(runner, second, inputs)
    assert (capturer.replayed, backend.ran) == (1, ran)


def test_a_capture_in_which_the_compiled_function_is_not_the_one_that_runs_fails_aloud() -> None:
    """Whatever makes the compiler's guards differ within the capture: here, gradients."""
    capturer = FakeGraphCapturer()

    def other_conditions(run: Any) -> Any:
        with torch.inference_mode(False), torch.enable_grad():
            return capturer(run)

    runner = Runner(blend, Execution(Compiler("eager"), other_conditions))
    runner.capture(Little(), *little_inputs())
    assert "blend cannot be captured" in execution_report(runner).fallback
    assert runner.mode == "eager"


def test_compiling_for_another_network_compiles_nothing_that_is_there() -> None:
    runner = Runner(blend, STRICT)
    for network in (Little(1), Little(2)):
        runner.compile(network, *EXAMPLES)
        assert graphs() == 1
    runner.compile(other := without_bias(), *EXAMPLES)
    assert graphs() == 2
    for network in (Little(2), other):
        check(runner, network, little_inputs(3, 8, 8, 8))


def test_fixed_compiles_what_is_captured_and_nothing_else() -> None:
    backend, capturer, network = CountingBackend(), FakeGraphCapturer(), Little()
    runner = Runner(blend, Execution(Compiler(backend), capturer, dynamic=False))
    runner.compile(network, *EXAMPLES)
    assert graphs() == 0
    runner.capture(network, *little_inputs())
    assert (graphs(), runner.mode) == (1, "captured")
    ran = backend.ran
    check(runner, network, little_inputs(3, 8, 8, 8))
    assert (backend.ran, capturer.replayed) == (ran, 0)
    check(runner, network, little_inputs())
    assert (backend.ran, capturer.replayed) == (ran + 1, 1)


def test_a_failing_capture_falls_back_to_eager(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(run: Any) -> Any:
        raise torch.OutOfMemoryError("no room for a graph")

    runner = Runner(blend, Execution(capturer=refuse))
    runner.capture(Little(), *little_inputs())
    assert "blend cannot be captured: OutOfMemoryError: no room for a graph" in caplog.text
    check(runner, Little(), little_inputs())


@pytest.mark.parametrize(
    ("device", "chosen", "compiles", "captures"),
    [
        ("cpu", "auto", False, False),
        ("cpu", "off", False, False),
        ("cpu", "on", True, False),
        ("cuda", "auto", True, True),
        ("cpu", "fixed", False, False),
        ("cuda", "fixed", True, True),
        ("cuda:1", "off", False, True),
        ("cuda", "on", True, True),
        ("cuda", "max", True, True),
    ],
)
def test_what_the_compile_setting_means(device: str, chosen: Compile, compiles: bool, captures: bool) -> None:
    execution = execution_for(torch.device(device), chosen)
    assert (execution.compiler is not None) is compiles
    assert isinstance(execution.capturer, CudaGraphCapturer) is captures
    assert execution.stance == "eager_on_recompile"
    assert execution.required is (chosen in ("on", "max"))
    if execution.compiler is not None:
        assert execution.dynamic is (chosen != "fixed")
        assert execution.compiler.backend == "inductor"
        assert ("max-autotune" in execution.compiler.mode) is (chosen == "max")
