"""Lower what a worker of one model compiles for one target, check it and count it; prints a `Report` as JSON."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from torch._dynamo.utils import counters

from models.runtime.tree import tree_leaves
from tests.lowering.counts import MODELS, NETWORKS, Count
from tests.lowering.evaluations import Evaluation
from tests.lowering.lowering import Layout, Lowering, as_loaded, lowering_for, served_precision
from tests.lowering.reports import Report
from tests.lowering.targets import TARGETS, Target
from tests.lowering.warm_ups import WarmUpCall, pipeline_of, warm_up_calls

_MIB: Final = 1 << 20
_TOLD: Final = 3
"""Cases of one problem that are told."""


def lower(
    calls: Sequence[WarmUpCall], target: Target, assemble: bool = True, layout: Layout = as_loaded, **names: Any
) -> Report:
    """Lower the calls for `target`, once per process; `names`: `network` and `model` of a `Count`."""
    report, counts = Report(), {}
    with lowering_for(target, assemble, layout) as lowering:
        for call in calls:
            evaluations = _repeat(call, lowering, report)
            for evaluation in evaluations:
                report.problems += _problems(call, evaluation, target, assemble)
            # Two examples show that one graph serves both; the first is counted.
            for evaluation in evaluations[:1] if call.kind == "compile" else evaluations:
                count = _count(call, evaluation, target=target.name, **names)
                counts[count.key] = count
    report.counts = list(counts.values())
    report.problems += [f"graph break: {reason}" for reason in counters["graph_break"]]
    return report


def _repeat(call: WarmUpCall, lowering: Lowering, report: Report) -> list[Evaluation]:
    began, graphs = time.process_time(), lowering.graphs
    evaluations = lowering.repeat(call)
    made, due = lowering.graphs - graphs, int(call.compiled and call.kind != "call")
    if made != due:
        report.problems.append(f"{call.name}: {made} graphs instead of {due}")
    if evaluations:
        seconds = time.process_time() - began
        report.seconds[call.name] = round(report.seconds.get(call.name, 0.0) + seconds, 1)
    return evaluations


def _problems(call: WarmUpCall, evaluation: Evaluation, target: Target, assemble: bool) -> Iterator[str]:
    """What no evaluation may do."""
    kernels = evaluation.kernels.items() if assemble else ()
    other = [name for name, kernel in kernels if not _assembled_for(kernel, target)]
    planned = [name for name in evaluation.attention if name.startswith("cudnn")]
    for what, cases in (
        (f"not compiled for sm_{target.arch}", other),
        ("not channels-last", evaluation.not_channels_last),
        ("weights converted or copied", evaluation.weights_read),
        ("attention that is planned for every shape", planned),
    ):
        if cases:
            told = ", ".join(islice(dict.fromkeys(cases), _TOLD))
            yield f"{call.name}: {what}, {len(cases)} times: {told}"


def _assembled_for(kernel: Any, target: Target) -> bool:
    """Whether all variants of a Triton kernel are machine code for the target."""
    compiled = [result.kernel for result in kernel.compile_results]
    return bool(compiled) and all(
        kernel.asm.get("cubin") and kernel.metadata.target.arch == target.arch for kernel in compiled
    )


def _count(call: WarmUpCall, evaluation: Evaluation, **names: Any) -> Count:
    firsts = [next(tree_leaves(tree)) for tree in call.examples[0]]
    return Count(
        function=call.function,
        graph="dynamic" if evaluation.dynamic else "static",
        sizes=", ".join("x".join(map(str, tensor.shape)) for tensor in firsts),
        kernels=len(evaluation.kernels),
        launches=evaluation.launches,
        attention=dict(sorted(evaluation.attention.items())),
        peak_mib=round(evaluation.peak / _MIB, 1),
        **names,
    )


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--only", action="append", default=[], help="such as predict_noise:capture; may be repeated")
    parser.add_argument("--sources-only", action="store_true", help="do not compile kernels to machine code")
    given = parser.parse_args()
    target = TARGETS[given.target]
    calls = warm_up_calls(pipeline_of(given.model, given.network, served_precision(target)))
    chosen = [call for call in calls if call.name in given.only or not given.only]
    report = lower(chosen, target, not given.sources_only, network=given.network, model=given.model)
    print(report.model_dump_json())  # noqa: T201 - what the process that started this one reads


if __name__ == "__main__":
    _main()
