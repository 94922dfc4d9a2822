"""What a worker compiles or captures is lowered for every target, and costs what the table says."""

from __future__ import annotations

import pytest

from tests.lowering.counts import Model, Network, combinations, differences, read_counts
from tests.lowering.reports import measure, unfit_torch

TABLE = read_counts().rows
HELD = {
    key: functions for key, functions in combinations(TABLE).items() if key[0] == "reduced" or key[1] in ("t4", "h200")
}
"""What the table has, by network, target and model; of the full networks, 5 minutes each, the oldest and the newest
target. `python -m tests.lowering --network full --only predict_noise:capture` compares the UNets for all."""


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif(unfit_torch() is not None, reason=unfit_torch() or "")
@pytest.mark.parametrize(("network", "target", "model"), HELD)
def test_what_a_worker_compiles_is_lowered(network: Network, target: str, model: Model) -> None:
    report = measure(target, model, network, HELD[network, target, model])
    assert report.problems == []
    assert differences(report.counts, TABLE) == []
