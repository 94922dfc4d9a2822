"""Counts that are the same on every machine, and how long the CPU's own work takes: `python -m bench.cpu`.

What a request computes against the least that it must, operators of an evaluation, graphs of the compiler.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: the project is what lies around this folder
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Final

import torch

from bench import cpu_encoding, cpu_noise
from bench.counts import graphs, roofline
from bench.counts.counting import META, ReadAsZero, flop, operators
from bench.counts.tracing import recorded_calls
from bench.full_size import baseline_pulid
from bench.full_size.networks import (
    IcLightParts,
    ic_light_parts,
    ic_light_pipeline,
    pulid_parts,
    pulid_pipeline,
)
from bench.full_size.workloads import (
    FirstStepDone,
    ignore_step,
    prepare_ic_light,
    prepare_pulid,
    pulid_request,
    stop_after_one,
)
from bench.report import RESULTS, Report, Row, row
from models.ic_light.matting import feed_size
from models.pipeline import Pipeline
from models.runtime.projections import lay_side_by_side
from models.runtime.unet import text_weights

PULID_REQUEST: Final = roofline.Request({(128, 128): 7})
"""The default request of pulid-lightning: 7 evaluations at 1024 x 1024 px."""
IC_LIGHT_REQUEST: Final = roofline.Request({(80, 64): 25, (120, 96): 25})
"""The default request of ic-light: 25 evaluations at 512 x 640 px, 25 at 768 x 960 px."""
_TERA: Final = 1e12


def flops() -> Iterator[Row]:
    """Work of default requests at full size, against the formulas."""
    parts = pulid_parts(META, reduced=False)
    pipeline = pulid_pipeline(parts)
    configs = roofline.pulid_configs(parts)
    first, again, reworded = (prepare_pulid(pipeline, prompt=text) for text in ("a cup", "a cup", "a bowl"))
    text = roofline.text_encoder(configs["clip_l"], layers_left_out=1) + roofline.text_encoder(configs["clip_g"])
    known = roofline.pulid_cached(configs["unet"], configs["vae"], PULID_REQUEST)

    def work(prepared: Any) -> Callable[[], object]:
        return lambda: pipeline.run([prepared], ignore_step)

    yield from _against("pulid-lightning, first request", work(first), roofline.pulid(**configs, request=PULID_REQUEST))
    yield from _against("pulid-lightning, same face and texts", work(again), known)
    yield from _against("pulid-lightning, same face, another prompt", work(reworded), known + text)
    relighting = ic_light_parts(META, reduced=False)
    relight = ic_light_pipeline(relighting, cpu_noise=True)
    prepared = prepare_ic_light(relight)
    yield from _against(
        "ic-light, first request", lambda: relight.run([prepared], ignore_step), _ic_light_minimum(relighting)
    )


def calls_of_known_faces() -> Iterator[Row]:
    """How often the networks of face and text run for a second request with the same face and the same texts."""
    parts = pulid_parts(META, reduced=False)
    pipeline = pulid_pipeline(parts)
    flop(lambda: pipeline.run([prepare_pulid(pipeline)], ignore_step))
    calls, numbers = 0, count(1)

    def note(*_: object) -> None:
        nonlocal calls
        calls = next(numbers)

    for network in (parts.clip_l, parts.clip_g, *parts.face_networks):
        network.register_forward_pre_hook(note)
    flop(lambda: pipeline.run([prepare_pulid(pipeline, seed=7)], ignore_step))
    yield row("pulid-lightning, same face and texts: face or text networks run", calls, "calls", "== 0")


def operator_counts() -> Iterator[Row]:
    """Operators of one evaluation for both branches at full size, against diffusers' own forward pass."""
    parts = pulid_parts(META, reduced=False)
    pipeline = pulid_pipeline(parts)
    prepared = prepare_pulid(pipeline)
    ours = _operators_of_run(pipeline, prepared)
    baseline_pulid.install(parts.unet, parts.projections, wide=False)
    with ReadAsZero():
        inputs = baseline_pulid.unet_inputs(pulid_request(parts, prepared), slice(0, 2))
    latents, timestep = torch.empty(2, 4, 128, 128, device=META), torch.empty(1, device=META)
    yield from _fewer("pulid-lightning", ours, operators(lambda: parts.unet(latents, timestep, **inputs)), "<= 0.9")
    relighting = ic_light_parts(META, reduced=False)
    relight = ic_light_pipeline(relighting, cpu_noise=True)
    ours = _operators_of_run(relight, prepare_ic_light(relight))
    seen, text = torch.empty(2, 8, 80, 64, device=META), torch.empty(2, 77, 768, device=META)
    plain = operators(lambda: relighting.unet(seen, timestep, encoder_hidden_states=text))
    yield from _fewer("ic-light", ours, plain, None)
    yield from _of_conditions()


def _of_conditions() -> Iterator[Row]:
    """Operators before the first evaluation of a portrait, with weights laid as they are on a GPU."""
    parts = pulid_parts(META, reduced=False)
    pipeline = pulid_pipeline(parts)
    known, reworded = prepare_pulid(pipeline), prepare_pulid(pipeline, prompt="a bowl")
    with suppress(FirstStepDone), ReadAsZero():
        pipeline.run([known], stop_after_one)
    apart = _operators_until_a_step(pipeline, known)
    for weights in text_weights(parts.unet):
        lay_side_by_side(weights)
    lay_side_by_side([projection.key for projection in parts.projections.values()])
    lay_side_by_side([projection.value for projection in parts.projections.values()])
    together = _operators_until_a_step(pipeline, known)
    name = "pulid-lightning: operators of a run's first step but its evaluations, same face and texts"
    yield row(f"{name}, projections apart", apart, "operators")
    yield row(f"{name}, side by side", together, "operators", "<= 250")
    more = _operators_until_a_step(pipeline, reworded) - together
    yield row("pulid-lightning: operators more for another prompt, captured on a GPU", more, "operators")


SECTIONS: Final[Mapping[str, Callable[[], Iterator[Row]]]] = {
    "flops": flops,
    "known": calls_of_known_faces,
    "operators": operator_counts,
    "graphs": graphs.rows,
    "encoding": cpu_encoding.rows,
    "noise": cpu_noise.rows,
}
"""What there is to measure, by the word that chooses it."""


def main() -> None:
    """Measure all, or what is chosen, and leave a report."""
    parser = argparse.ArgumentParser(prog="python -m bench.cpu", description=__doc__)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="one section, or several by repeating")
    parser.add_argument("--budget-s", type=float, default=1800, help="seconds after which the run ends (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    arguments = parser.parse_args()
    chosen = arguments.only or list(SECTIONS)
    what = "cpu" if chosen == list(SECTIONS) else f"cpu-{'-'.join(chosen)}"
    with Report(what, folder=arguments.out, budget_s=arguments.budget_s) as report:
        for name in chosen:
            for measured in SECTIONS[name]():
                report.put(measured)


def _ic_light_minimum(parts: IcLightParts) -> int:
    """The minimum of work for the default request with the picture of all requests."""
    width, height = feed_size(960, 1200)
    text = parts.text_encoder.config.to_dict()
    return roofline.ic_light(parts.unet.config, parts.vae.config, text, IC_LIGHT_REQUEST, (height, width))


def _against(name: str, work: Callable[[], object], least: int) -> Iterator[Row]:
    done = flop(work)
    yield row(f"{name}: work", done / _TERA, "TFLOP")
    yield row(f"{name}: work / minimum", done / least, "", "<= 1.005", f"minimum {least / _TERA:.3f} TFLOP")


def _operators_of_run(pipeline: Pipeline[Any, Any], prepared: Any) -> int:
    """Operators of the first evaluation of the UNet in a run."""
    with recorded_calls() as calls, suppress(FirstStepDone), ReadAsZero():
        pipeline.run([prepared], stop_after_one)
    return operators(next(call for call in calls if call.name == "predict_noise").again)


def _operators_until_a_step(pipeline: Pipeline[Any, Any], prepared: Any) -> int:
    """Operators of a run until its first step is done, without those of its evaluations."""

    def run() -> None:
        with suppress(FirstStepDone):
            pipeline.run([prepared], stop_after_one)

    with recorded_calls() as calls, ReadAsZero():
        every = operators(run)
    return every - sum(operators(call.again) for call in calls if call.name == "predict_noise")


def _fewer(name: str, ours: int, plain: int, goal: str | None) -> Iterator[Row]:
    yield row(f"{name}: operators of an evaluation, ours", ours, "operators")
    yield row(f"{name}: operators of an evaluation, diffusers", plain, "operators")
    yield row(f"{name}: operators ours / diffusers", ours / plain, "", goal)


if __name__ == "__main__":
    main()
