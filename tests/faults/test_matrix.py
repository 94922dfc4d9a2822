"""Every fault in short: a few trials each, without limits of time; `make faults` does them in full."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.faults.finding import Finding
from tests.faults.matrix import FAULTS, borrowed, disk

ELSEWHERE = {fault.id for fault in borrowed.FAULTS} | {"F21"}
"""Their trials are tests of other rooms, or boot real models."""
SHORT = [key for key in FAULTS if key not in ELSEWHERE]


TAKE_LONG = (
    "F8",
    "F9",
    "F10",
    "F13",
    "F14",
    "F15",
    "F18",
    "F20",
    "F24",
    "CUT",
    "PAUSE",
    "VERSIONS",
    "HOOK1",
    "HOOK2",
    "HOOK3",
)
"""Five seconds of waiting and more each, in short too."""


@pytest.fixture(scope="module")
def findings(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Finding]]]:
    """All that were selected at the same time, three by three: most of the time each of them waits."""
    selected = [item.callspec.params["key"] for item in request.session.items if item.path == request.path]
    with ThreadPoolExecutor(3) as pool:
        yield {key: pool.submit(FAULTS[key].find, False) for key in selected}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    "key", [pytest.param(key, marks=pytest.mark.slow) if key in TAKE_LONG else key for key in SHORT]
)
def test_it_is_survived(key: str, findings: dict[str, Future[Finding]]) -> None:
    if key == "F8" and not disk.may_mount():
        pytest.skip("mounting a small disk is not allowed here")
    finding = findings[key].result()
    assert finding.complaints == []
    assert finding.trials > 0
    assert finding.figure
