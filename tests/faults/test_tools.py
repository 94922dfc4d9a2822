"""The parts that bring faults about, and those that report them."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from tests.faults.finding import Fault, Finding
from tests.faults.processes.caller import Answer
from tests.faults.processes.load import SteadyLoad, outages
from tests.faults.processes.shim import Shim
from tests.faults.processes.waiting import TimedOut, percentile, until
from tests.faults.report import line, with_finding
from tests.faults.runs import RunLog
from tests.faults.soak import Memory


def answer(code: int, **headers: str) -> Answer:
    return Answer(code, {}, headers, time.monotonic(), 0.01)


def test_the_shim_passes_on_pauses_and_cuts(redis_socket: Path) -> None:
    with Shim(redis_socket) as shim:
        redis = Redis.from_url(shim.url, socket_timeout=0.3, retry=Retry(NoBackoff(), 0))
        assert redis.ping()
        shim.pause()
        with pytest.raises(RedisTimeoutError):
            redis.ping()
        shim.resume()
        assert redis.ping()
        redis = Redis.from_url(shim.url, retry=Retry(NoBackoff(), 0))
        threading.Timer(0.2, shim.cut).start()
        with pytest.raises(RedisConnectionError):
            redis.blpop("nothing", timeout=30)
        assert redis.ping()
        redis.close()


def test_steady_load_counts_the_time_that_calls_had_to_wait() -> None:
    def slow() -> Answer:
        began = time.monotonic()
        time.sleep(0.1)
        return Answer(200, {}, {}, began, time.monotonic() - began)

    with SteadyLoad(slow, rate=50, threads=1) as load:
        time.sleep(0.6)
    assert max(load.latencies()) > 0.3
    assert load.codes() == {200: len(load.answers)}


def test_steady_load_keeps_its_rate_and_ends() -> None:
    began = time.monotonic()
    with SteadyLoad(lambda: answer(200), rate=100, threads=4) as load:
        time.sleep(0.5)
    assert 0 < len(load.answers) <= (time.monotonic() - began) * 100 + 4
    assert not any(thread.name.startswith("Thread") and thread.is_alive() for thread in load.crew)


def test_in_times_of_trouble_only_503_that_says_when_is_right() -> None:
    fine = [answer(200), answer(503, **{"retry-after": "5"})]
    assert outages([(0.0, found) for found in fine]) == []
    assert len(outages([(0.0, found) for found in (answer(503), answer(500), answer(0))])) == 3


def test_runs_are_told_apart_by_label_process_and_end(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.note("begin", "aaaaaa", label="one", seed=1, pid=7)
    log.note("step", "aaaaaa")
    log.note("painted", "aaaaaa")
    log.note("begin", "bbbbbb", label="one", seed=1, pid=8)
    first, second = log.of("one")
    assert (first.run, len(first.steps), first.painted is not None) == ("aaaaaa", 1, True)
    assert log.under_way(7) is None
    assert log.under_way(8) == second


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles(share: float, expected: int) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected
    assert math.isnan(percentile([], share))


def test_what_does_not_come_true_is_told() -> None:
    with pytest.raises(TimedOut, match="a miracle"):
        until(lambda: False, "a miracle", timeout_s=0.1)
    event = threading.Event()
    threading.Timer(0.1, event.set).start()
    assert until(event.is_set, "the timer", 5) > 0.05


def test_a_trial_that_breaks_is_a_finding() -> None:
    def inflict(full: bool, finding: Finding) -> None:
        finding.trial()
        until(lambda: False, "a miracle", timeout_s=0.1)

    finding = Fault("F0", "name", "how", "target", inflict).find(full=False)
    assert (finding.trials, finding.survived) == (2, 1)
    assert "a miracle" in finding.complaints[0]
    assert line(Fault("F0", "name", "how", "target", inflict), finding, 1.0).startswith("FAIL F0")


def test_a_finding_without_trials_has_not_been_survived() -> None:
    assert line(Fault("F0", "name", "how", "target", lambda *_: None), Finding(), 1.0).startswith("FAIL")


def test_the_document_keeps_the_rows_of_other_faults_in_their_order() -> None:
    document = "before\n<!-- measured -->\n<!-- end of measured -->\nafter\n"
    found = {"CUT": Finding(4), "F10": Finding(3), "F2": Finding(2, ["a | b"], "fine"), "F1": Finding(1)}
    for key, finding in [*found.items(), ("F1", Finding(9, [], "new"))]:
        document = with_finding(document, Fault(key, "name", "how", "target", lambda *_: None), finding)
    rows = [row.split(" | ") for row in document.splitlines() if row.startswith("| `")]
    assert [row[0] for row in rows] == ["| `F1`", "| `F2`", "| `F10`", "| `CUT`"]
    assert rows[0][2:5] == ["9", "9", "new"]
    assert rows[1][2:5] == ["2", "1", "a &#124; b"]
    assert document.startswith("before\n")
    assert document.endswith("after\n")


def test_the_slope_of_memory_leaves_warming_up_out() -> None:
    flat = Memory([(0, 10.0), (1000, 50.0), (2000, 80.0), *((1000 * n, 80.0) for n in range(3, 9))])
    assert flat.slope == pytest.approx(0)
    growing = Memory([(1000 * n, 80.0 + 2 * n) for n in range(9)])
    assert growing.slope == pytest.approx(2)
    assert growing.share == pytest.approx(2 / 96)
