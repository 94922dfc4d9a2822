"""What workers say of themselves, and what that means for a request."""

from __future__ import annotations

from redis import Redis

from workers.state.registry import ModelReport, ModelState, WorkerRegistry, WorkerReport, served_variants


def worker(name: str, state: ModelState = ModelState.READY, *variants: str) -> WorkerReport:
    return WorkerReport(name, "cpu", {"ic-light": ModelReport(state, "real", variants=variants)})


def test_reports_come_back_as_they_were_given(registry: WorkerRegistry) -> None:
    reports = [worker("a", ModelState.READY, "foreground", "background"), worker("b", ModelState.LOADING)]
    for report in reversed(reports):
        registry.heartbeat(report)
    assert registry.live_workers() == reports


def test_deregistered_and_stale_workers_leave_nothing_behind(registry: WorkerRegistry, redis: Redis) -> None:
    for name in ("a", "b", "c"):
        registry.heartbeat(worker(name))
    registry.deregister("a")
    redis.delete("facelight:worker:b")  # as when it expires
    assert registry.live_workers() == [worker("c")]
    registry.deregister("c")
    assert registry.live_workers() == []
    assert redis.keys("facelight:*") == [b"facelight:counts"]


def test_only_workers_that_end_without_a_word_are_lost(registry: WorkerRegistry, redis: Redis) -> None:
    for _ in range(2):
        registry.heartbeat(worker("a"))
        registry.heartbeat(worker("b"))
    registry.deregister("a")
    redis.delete("facelight:worker:b")
    for _ in range(2):  # every gateway asks, and one of them counts
        assert registry.live_workers() == []
    assert redis.hgetall("facelight:counts") == {b"worker:started": b"2", b"worker:lost": b"1"}


def test_a_stale_worker_is_live_again_with_its_next_heartbeat(registry: WorkerRegistry, redis: Redis) -> None:
    registry.heartbeat(worker("a"))
    redis.delete("facelight:worker:a")
    assert registry.live_workers() == []
    registry.heartbeat(worker("a"))
    assert registry.live_workers() == [worker("a")]


def test_served_variants_are_the_union_over_workers() -> None:
    plain, able = worker("a", ModelState.READY, "foreground"), worker("b", ModelState.READY, "background")
    assert served_variants([plain], "ic-light") == {"foreground"}
    assert served_variants([plain, able], "ic-light") == {"foreground", "background"}
    assert served_variants([plain, worker("b", ModelState.LOADING, "background")], "ic-light") == {"foreground"}


def test_served_variants_are_none_without_a_ready_worker() -> None:
    assert served_variants([], "ic-light") is None
    assert served_variants([worker("a", ModelState.LOADING)], "ic-light") is None
    assert served_variants([worker("a", ModelState.READY, "foreground")], "pulid-lightning") is None
