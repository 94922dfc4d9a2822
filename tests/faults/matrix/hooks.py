"""Webhooks whose receiver, gateway or Redis is away: none is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from tests.faults.behaviour import Behaviour
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.waiting import until
from tests.live_server import free_port
from tests.server.webhooks.support import Delivery, Receiver, let_time_pass, pauses, receiving
from workers.state.connection import connect
from workers.state.outbox import LEASE_S
from workers.state.webhook_secrets import WebhookSecrets

_DOWN_S = 600
_LONGEST_PAUSE_S = 1800
_HOW_MANY = 200
_SETTINGS = {"fetch_allow_cidrs": "127.0.0.0/8", "janitor_interval_s": 0.5}


def receiver_down(full: bool, finding: Finding) -> None:
    """Nobody listens for ten minutes, by the clock of the outbox."""
    port, count = free_port(), _HOW_MANY if full else 5
    with cluster(gateways=2, workers=2, **_SETTINGS) as made:
        ids = [made.caller.accept(Behaviour(), webhook=f"http://127.0.0.1:{port}/hook") for _ in range(count)]
        made.settled()
        tries = 0
        for _ in range(_DOWN_S // 30):
            until(lambda: _all_tried(made), "every message that is due to be tried")
            tries = _tries(made)
            let_time_pass(made.redis.client, 30)
        with receiving(port=port) as receiver:
            let_time_pass(made.redis.client, _LONGEST_PAUSE_S)
            seconds = until(lambda: _told(receiver) == set(ids), "every message to be delivered", 120)
            _check(made, receiver, ids, finding)
    told = f"{len(_told(receiver))} of {count} told, after {tries} tries in vain"
    finding.figure = f"{told}; all within {seconds:.1f} s of being due again"


def killed_gateway(full: bool, finding: Finding) -> None:
    """SIGKILL once requests have ended and before they are told of; and while their receiver still takes its time."""
    rounds, each = (10, _HOW_MANY // 10) if full else (2, 5)
    ids: list[str] = []
    with receiving() as receiver, cluster(gateways=2, workers=2, **_SETTINGS) as made:
        for number in range(rounds):
            first, second = made.gateways
            before, while_sending = len(ids), bool(number % 2)
            receiver.answer = _slowly if while_sending else _at_once
            behaviour = Behaviour() if while_sending else Behaviour(steps=2, step_ms=500)  # ends when they stand still
            accepted = [made.caller.accept(behaviour, webhook=receiver.url) for _ in range(each)]
            if while_sending:
                until(lambda before=before: len(_told(receiver)) > before, "the first message")
            for gateway in (first, second):
                gateway.send(signal.SIGSTOP)
            made.settled()
            for gateway in (first, second):
                gateway.kill()
            receiver.answer = _at_once
            for gateway in (first, second):
                gateway.start()
            made.wait_until_ready()
            ids += accepted
            _until_told(made, receiver, ids)
        _check(made, receiver, ids, finding)
    finding.figure = _figure(receiver, ids, f"{rounds} times both of two gateways killed")


def redis_restarted(full: bool, finding: Finding) -> None:
    """SIGKILL of Redis while messages are sent, and a new start from its append-only file."""
    rounds, each = (5, _HOW_MANY // 5) if full else (1, 5)
    ids: list[str] = []
    with receiving() as receiver, cluster(gateways=2, workers=2, **_SETTINGS) as made:
        for _ in range(rounds):
            receiver.answer = _slowly
            before = len(ids)
            ids += [made.caller.accept(Behaviour(), webhook=receiver.url) for _ in range(each)]
            until(lambda before=before: len(_told(receiver)) > before, "the first message")
            made.redis.kill()
            time.sleep(2.0)
            made.redis.start()
            made.settled()
            receiver.answer = _at_once
            _until_told(made, receiver, ids)
        _check(made, receiver, ids, finding)
    finding.figure = _figure(receiver, ids, f"{rounds} times Redis killed and started")


def _slowly(_: Delivery) -> tuple[int, dict[str, str]]:
    time.sleep(0.5)
    return 200, {}


def _at_once(_: Delivery) -> tuple[int, dict[str, str]]:
    return 200, {}


def _told(receiver: Receiver) -> set[str]:
    return {delivery.json["request_id"] for delivery in list(receiver.deliveries)}


def _until_told(made: Cluster, receiver: Receiver, ids: list[str]) -> None:
    """Let leases end, again and again, until every request was told of and nothing is left to send."""

    def done() -> bool:
        if pauses(made.redis.client):
            let_time_pass(made.redis.client, LEASE_S)
            time.sleep(0.5)
        return _told(receiver) >= set(ids) and not pauses(made.redis.client)

    until(done, "every message to be delivered", 120, pause_s=0.1)


def _all_tried(made: Cluster) -> bool:
    """Whether no message is due, nor being sent."""
    leases = [made.redis.client.hexists(key, "lease") for key in _messages(made)]
    return not any(leases) and all(pause_s > 0 for pause_s in pauses(made.redis.client))


def _tries(made: Cluster) -> int:
    return sum(int(made.redis.client.hget(key, "tries")) for key in _messages(made))


def _messages(made: Cluster) -> list[bytes]:
    return list(made.redis.client.scan_iter("facelight:webhook:*", count=1000))


def _check(made: Cluster, receiver: Receiver, ids: list[str], finding: Finding) -> None:
    """Every request was told of, by one id, in a message that can be verified; nothing is left over."""
    (secret,) = WebhookSecrets(connect(made.redis.url)).get(None)
    deliveries = list(receiver.deliveries)
    for request_id in ids:
        own = [delivery for delivery in deliveries if delivery.json["request_id"] == request_id]
        finding.trial(unless(bool(own), f"{request_id} was not told of"))
        finding.blame(unless(len({delivery.id for delivery in own}) <= 1, f"{request_id} was told of by several ids"))
    for delivery in deliveries:
        delivery.verify(secret)
    until(lambda: not _messages(made), "the outbox to be empty", 30)
    finding.blame(*made.audit(pictures=False))


def _figure(receiver: Receiver, ids: list[str], what: str) -> str:
    again = len(receiver.deliveries) - len(_told(receiver))
    return f"{len(_told(receiver))} of {len(ids)} told, {again} of them again; {what}"


def _fault(fault_id: str, name: str, how: str, inflict: Callable[[bool, Finding], None]) -> Fault:
    return Fault(fault_id, name, how, f"0 of {_HOW_MANY} webhooks lost, each under one `webhook-id`", inflict)


FAULTS = (
    _fault(
        "HOOK1",
        "the receiver of webhooks is down for 10 min",
        "nobody listens; the due times and expiries of the outbox are moved by 30 s at a time",
        receiver_down,
    ),
    _fault(
        "HOOK2",
        "gateways are killed between a state and its webhook",
        "SIGKILL to both of two gateways when requests have ended and nothing of them is sent yet, or while it is "
        "being sent; leases end as above",
        killed_gateway,
    ),
    _fault(
        "HOOK3",
        "Redis restarts while webhooks are sent",
        "SIGKILL, and a start from the append-only file 2 s later",
        redis_restarted,
    ),
)
