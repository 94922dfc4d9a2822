"""Over any sequence of events no request is lost or finishes twice, owners share fairly, and credits add up.

Hypothesis generates callers, workers that die at any moment, lost wakeups, lost replies and janitors, on a real Redis.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from tests.workers.state.support import claim, complete, unfinished
from workers.engine.rq_loop import WakeupQueue
from workers.errors import IdempotencyConflict, OutOfCredits, QueueFull
from workers.state.janitor import Janitor
from workers.state.keys import Keys
from workers.state.record import FailureReason, Idempotency, QueueLimits, Record, Status
from workers.state.records import Records
from workers.state.registry import WorkerRegistry, WorkerReport
from workers.state.scripts import FINISHED_CHANNEL, new_call_id
from workers.state.statistics import StatisticsReader
from workers.store.base import Store

CREDITS = 30.0
LIMITS = QueueLimits(queue=9, per_owner=6)
MAX_ATTEMPTS = 2
SLUG, VARIANT = "ic-light", "foreground"


@dataclass
class Expected:
    """What must be true of one request."""

    owner: str
    cost: float
    status: Status = Status.QUEUED
    attempts: int = 0
    cancelled: bool = False


@dataclass
class Overtaken:
    """How often each other owner was served while one waited, since that one was served last."""

    by: Counter[str] = field(default_factory=Counter)
    cancelled_one: bool = False


class RequestLifecycle(RuleBasedStateMachine):
    """A model of all requests in Python, compared with Redis after every step."""

    def __init__(self, redis: Redis, store: Store) -> None:
        super().__init__()
        redis.flushall()
        self.redis = redis
        self.records = Records(redis, result_ttl_s=3600, request_ttl_s=86_400)
        self.wakeups = WakeupQueue(SLUG, VARIANT, redis)
        self.registry = WorkerRegistry(redis, ttl_s=10)
        self.statistics = StatisticsReader(redis)
        self.janitor = Janitor(self.records, store, self.registry, MAX_ATTEMPTS)
        self.keys = Keys(redis)
        self.metered = [self.keys.add(name, credits=CREDITS)[0].id for name in ("alice", "bob")]
        self.owners = [*self.metered, "unmetered"]
        self.expected: dict[str, Expected] = {}
        self.once: dict[tuple[str, str], tuple[str, str]] = {}
        self.waited: dict[str, Overtaken] = {}
        self.names = [f"worker-{number}" for number in range(3)]
        self.held: dict[str, list[Record]] = {}
        """Requests in flight in each worker: up to three, not of one batch as a rule."""
        self.dead: list[Record] = []
        self.ends = redis.pubsub(ignore_subscribe_messages=True)
        self.ends.subscribe(FINISHED_CHANNEL)
        self.heard: Counter[str] = Counter()

    @rule(
        owner=st.integers(0, 2),
        cost=st.sampled_from([1.0, 2.5]),
        once=st.sampled_from(["key-1", "key-2"]),
        fingerprint=st.sampled_from(["this", "this", "that"]),
        calls=st.integers(1, 2),
    )
    def submit_once(self, owner: int, cost: float, once: str, fingerprint: str, calls: int) -> None:
        """A call with an Idempotency-Key."""
        self._submit(owner, cost, once, fingerprint, calls)

    @rule(owner=st.integers(0, 2), cost=st.sampled_from([1.0, 2.5]), calls=st.integers(1, 2))
    def submit(self, owner: int, cost: float, calls: int) -> None:
        """A call without."""
        self._submit(owner, cost, None, "", calls)

    @initialize(owners=st.lists(st.integers(0, 2), min_size=1, max_size=4))
    def begin(self, owners: list[int]) -> None:
        """Some wait already."""
        for owner in owners:
            self._submit(owner, 1.0, None, "", 1)

    @rule(owner=st.integers(0, 2), count=st.integers(2, 5))
    def submit_many(self, owner: int, count: int) -> None:
        """An owner in a hurry."""
        for _ in range(count):
            self._submit(owner, 1.0, None, "", 1)

    @rule(name=st.integers(0, 2), claims=st.integers(1, 2), notified=st.booleans())
    def claim_batch(self, name: int, claims: int, notified: bool) -> None:
        """A worker claims, notified by a wakeup or to prefetch; it may send the claim twice."""
        worker = self.names[name]
        held = self.held.get(worker, [])
        if len(held) >= 3:
            return
        wakeup = self.redis.lpop(self.wakeups.key) if notified else b""
        wakeups = self.wakeups.count
        claim_id, max_size, waiting = new_call_id(), 2, len(self._waiting())
        if notified and wakeup is None:
            return
        for _ in range(claims):
            claimed = self.records.claim_batch([(SLUG, VARIANT)], worker, claim_id, max_size, wakeup)
        expected = (1 if waiting else 0) if notified or wakeups else 0
        assert expected <= len(claimed) <= (1 if waiting < 8 else 2)
        assert self.wakeups.count == max(0, wakeups - len(claimed) + (1 if notified and claimed else 0))
        for record in claimed:
            self._begin(worker, record)

    def _begin(self, worker: str, record: Record) -> None:
        expected = self.expected[record.request_id]
        expected.attempts += 1
        assert (record.attempt, record.worker, record.owner) == (expected.attempts, worker, expected.owner)
        self._check_fairness(record, expected)
        expected.status = Status.PROCESSING
        self.held.setdefault(worker, []).append(record)

    def _draw_held(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(name for name, held in self.held.items() if held)))

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), calls=st.integers(1, 2))
    def complete(self, data: st.DataObject, calls: int) -> None:
        """A worker has made the pictures."""
        self._finish(self._draw_held(data), True, calls)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), calls=st.integers(1, 2))
    def fail(self, data: st.DataObject, calls: int) -> None:
        """A worker has found something wrong."""
        self._finish(self._draw_held(data), False, calls)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def cancel_running(self, data: st.DataObject) -> None:
        """A caller wants no more of what a worker is at."""
        record = data.draw(st.sampled_from(self.held[self._draw_held(data)]))
        self.expected[record.request_id].cancelled = True
        cancelled = self.records.cancel(record.request_id)
        assert cancelled is not None
        assert cancelled.cancel_requested

    def _finish(self, name: str, well: bool, calls: int) -> None:
        record = self.held[name].pop(0)
        expected = self.expected[record.request_id]
        completes = well and not expected.cancelled
        for _ in range(calls):
            assert self._end(record, well) == (completes or not well)
        expected.status = Status.COMPLETED if completes else Status.FAILED

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """A busy worker dies, and its registration expires; its successor has another name."""
        self._die(self._draw_held(data))

    def _die(self, name: str) -> None:
        self.names[self.names.index(name)] = f"{name}'"
        self.registry.deregister(name)
        self.dead += self.held.pop(name)

    @precondition(lambda self: bool(self.dead))
    @rule(data=st.data(), well=st.booleans())
    def finish_late(self, data: st.DataObject, well: bool) -> None:
        """A worker that only hung finishes its request; that counts unless the janitor has requeued it."""
        record = self.dead.pop(data.draw(st.integers(0, len(self.dead) - 1)))
        expected = self.expected[record.request_id]
        current = self.records.get(record.request_id)
        assert current is not None
        its_own = (current.status, current.attempt, current.worker) == (
            Status.PROCESSING,
            record.attempt,
            record.worker,
        )
        assert self._end(record, well) == (its_own and not (well and expected.cancelled))
        if its_own:
            expected.status = Status.COMPLETED if well and not expected.cancelled else Status.FAILED

    @precondition(lambda self: bool(self.expected))
    @rule(data=st.data(), calls=st.integers(1, 2))
    def cancel(self, data: st.DataObject, calls: int) -> None:
        """A caller wants no more of a request, whatever state it is in."""
        request_id = data.draw(st.sampled_from(sorted(self.expected)))
        expected = self.expected[request_id]
        for _ in range(calls):
            record = self.records.cancel(request_id)
        if expected.status is Status.QUEUED:
            self.waited[expected.owner].cancelled_one = True
            expected.status = Status.FAILED
            self._forget_owners_without_waiting()
        elif expected.status is Status.PROCESSING:
            expected.cancelled = True
        assert record is not None
        assert record.status is expected.status
        assert record.cancel_requested == expected.cancelled

    @rule()
    def lose_wakeup(self) -> None:
        """A worker has popped it and died."""
        self.redis.lpop(self.wakeups.key)

    @rule()
    def run_janitor(self) -> None:
        """A round of the janitor: afterwards no dead worker holds a request, and there are enough wakeups."""
        for name in self.names:
            held = tuple(record.request_id for record in self.held.get(name, ()))
            self.registry.heartbeat(WorkerReport(name, "cpu", {}, held))
        self.janitor.run_once()
        mine = {record.request_id for held in self.held.values() for record in held}
        for request_id, expected in self.expected.items():
            if expected.status is Status.PROCESSING and request_id not in mine:
                last = expected.attempts >= MAX_ATTEMPTS or expected.cancelled
                expected.status = Status.FAILED if last else Status.QUEUED
                if not last:
                    self.waited.setdefault(expected.owner, Overtaken())
        assert self.wakeups.count >= len(self._waiting())

    @invariant()
    def states_are_as_expected(self) -> None:
        for request_id, expected in self.expected.items():
            record = self.records.get(request_id)
            assert record is not None
            assert (record.status, record.attempt) == (expected.status, expected.attempts), request_id
        expected_ids = {name for name, expected in self.expected.items() if not expected.status.is_final}
        assert set(unfinished(self.redis)) == expected_ids
        assert self.records.depth(SLUG) == len(self._waiting())

    @invariant()
    def statistics_are_those_of_the_records(self) -> None:
        found = self.statistics.read()
        states = Counter(expected.status for expected in self.expected.values())
        assert found.waiting[SLUG, VARIANT] == states[Status.QUEUED]
        assert found.running.get(SLUG, 0) == states[Status.PROCESSING]
        assert found.count(SLUG, "accepted") == len(self.expected)
        ended = Counter({status: found.count(SLUG, status, "") for status in (Status.COMPLETED, Status.FAILED)})
        for reason in FailureReason:
            ended[Status.FAILED] += found.count(SLUG, Status.FAILED, reason)
        assert ended[Status.COMPLETED] == states[Status.COMPLETED]
        assert ended[Status.FAILED] == states[Status.FAILED]
        paid = sum(self._spent(owner) for owner in self.metered)
        assert found.count(SLUG, "charged") - found.count(SLUG, "refunded") == paid

    @invariant()
    def credits_add_up(self) -> None:
        for owner in self.metered:
            key = self.keys.get(owner)
            assert key is not None
            assert key.credits == CREDITS - self._spent(owner)

    @invariant()
    def every_end_is_published_once(self) -> None:
        while message := self.ends.get_message():
            self.heard[message["data"].decode()] += 1
        assert set(self.heard.values()) <= {1}

    def teardown(self) -> None:
        """A janitor's round and one healthy worker bring everything to its end."""
        try:
            self._drain()
        finally:
            self.ends.close()

    def _drain(self) -> None:
        for name in list(self.held):
            self._die(name)
        self.run_janitor()
        while self.redis.lpop(self.wakeups.key):
            if record := claim(self.records, SLUG, VARIANT, "last"):
                assert complete(self.records, record, (), 1.0)
        assert unfinished(self.redis) == self.records.running() == []
        self.every_end_is_published_once()
        assert set(self.heard) == set(self.expected)
        left = {key for key in self.redis.scan_iter() if self.redis.ttl(key) == -1 and b":key" not in key}
        assert left <= {b"facelight:workers", b"facelight:counts", b"rq:queues"}

    def _submit(self, owner: int, cost: float, once: str | None, fingerprint: str, calls: int) -> None:
        """Perhaps the call is sent twice because its answer got lost."""
        name, request_id = self.owners[owner], f"r{len(self.expected)}"
        outcome = self._outcome(name, cost, once, fingerprint)
        if isinstance(outcome, type):
            with pytest.raises(outcome):
                self._create(request_id, name, cost, once, fingerprint)
            return
        known = outcome or request_id
        for _ in range(calls):
            assert self._create(request_id, name, cost, once, fingerprint) == known
        if known == request_id:
            self.expected[request_id] = Expected(name, cost if name in self.metered else 0.0)
            self.waited.setdefault(name, Overtaken())
            if once:
                self.once[name, once] = (request_id, fingerprint)

    def _outcome(self, owner: str, cost: float, once: str | None, fingerprint: str) -> type[Exception] | str | None:
        """The error that a call must raise, the id of an earlier request that it stands for, or None."""
        if once and (owner, once) in self.once:
            known, other = self.once[owner, once]
            return known if other == fingerprint else IdempotencyConflict
        own = [request_id for request_id in self._waiting() if self.expected[request_id].owner == owner]
        if len(self._waiting()) >= 9 or len(own) >= 6:
            return QueueFull
        return OutOfCredits if owner in self.metered and CREDITS - self._spent(owner) < cost else None

    def _create(self, request_id: str, owner: str, cost: float, once: str | None, fingerprint: str) -> str:
        idempotency = Idempotency(once, fingerprint) if once else None
        return self.records.create(request_id, SLUG, VARIANT, owner, {}, cost, idempotency, LIMITS, batch_hint="any")

    def _end(self, record: Record, well: bool) -> bool:
        return complete(self.records, record, (), 1.0) if well else self.records.fail(record, "no face")

    def _waiting(self) -> list[str]:
        return [name for name, expected in self.expected.items() if expected.status is Status.QUEUED]

    def _spent(self, owner: str) -> float:
        paid = (one.cost for one in self.expected.values() if one.owner == owner and one.status is not Status.FAILED)
        return sum(paid)

    def _check_fairness(self, record: Record, expected: Expected) -> None:
        """Fairness: no owner is served three times while another one waits all along."""
        own = [request_id for request_id in self._waiting() if self.expected[request_id].owner == expected.owner]
        again = [request_id for request_id in self._waiting() if self.expected[request_id].attempts]
        expected.status = Status.PROCESSING
        if record.attempt > 1:
            return
        assert again == [record.request_id], "a requeued request is at the front"
        assert record.request_id == own[0], "an owner's requests are served in their order"
        for owner, overtaken in self.waited.items():
            if owner != expected.owner:
                overtaken.by[expected.owner] += 1
                assert overtaken.by[expected.owner] <= 2 or overtaken.cancelled_one
        self.waited[expected.owner].by.clear()
        self._forget_owners_without_waiting()

    def _forget_owners_without_waiting(self) -> None:
        waiting = {self.expected[request_id].owner for request_id in self._waiting()}
        self.waited = {owner: overtaken for owner, overtaken in self.waited.items() if owner in waiting}


@pytest.mark.parametrize("examples", [60, pytest.param(100, marks=pytest.mark.slow)])
def test_any_lifecycle(redis: Redis, store: Store, examples: int) -> None:
    checks: Any = [HealthCheck.too_slow]
    run_state_machine_as_test(
        lambda: RequestLifecycle(redis, store),
        settings=settings(max_examples=examples, stateful_step_count=50, deadline=None, suppress_health_check=checks),
    )
