"""The audit of a cluster: every accepted request ended exactly once, and its pictures come from one run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.faults.audit_log import RequestLifecycle, read_audit_log
from tests.faults.processes.caller import Caller, colour_of
from tests.faults.processes.redis_member import RedisMember
from tests.faults.runs import RunLog

LASTING = re.compile(
    r"facelight:(key:.+|key-digests|webhook-secrets|open|workers|counts)|rq:(queues|workers|(workers|wip|failed):[a-z-]+)"
)
"""The keys that may stay without an expiry: issued API keys, the server's secrets of webhooks, a few of fixed names
whose members come and go, and how many requests have ended by reason."""


def audit(redis: RedisMember, caller: Caller, runs: RunLog | None) -> list[str]:
    """What is inconsistent, one message each. With `runs`, every picture is fetched and traced to its run."""
    lifecycles = read_audit_log(redis.append_only_file)
    complaints = [words for request_id, found in lifecycles.items() for words in _of_lifecycle(request_id, found)]
    complaints += [f"{found} was accepted and is nowhere" for found in caller.accepted if found not in lifecycles]
    complaints += audit_keys(redis.client)
    return complaints + (audit_pictures(caller, runs) if runs is not None else [])


def audit_keys(client: Any) -> list[str]:
    """Keys that stay for ever, and should not."""
    return [f"the key {key} never expires" for key in lasting_keys(client) if not LASTING.fullmatch(key)]


def audit_pictures(caller: Caller, runs: RunLog) -> list[str]:
    """Fetches all pictures: those of a request come from one run of its own."""
    painted = {run.run: run.label for run in runs.all() if run.painted is not None}
    found = [_of_pictures(request_id, label, caller, painted) for request_id, label in caller.accepted.items()]
    return [words for complaints in found for words in complaints]


def lasting_keys(client: Any) -> Iterator[str]:
    """Keys of Redis that have no expiry."""
    for key in client.scan_iter(count=1000):
        if client.ttl(key) == -1:
            yield key.decode()


def _of_lifecycle(request_id: str, lifecycle: RequestLifecycle) -> Iterator[str]:
    if lifecycle.ends != 1:
        yield f"{request_id} ended {lifecycle.ends} times: {' '.join(lifecycle.states)}"
    if lifecycle.changed_after_end:
        yield f"{request_id} went on after its end: {' '.join(lifecycle.states)}"


def _of_pictures(request_id: str, label: str, caller: Caller, painted: dict[str, str]) -> Iterator[str]:
    if caller.status(request_id) != "COMPLETED":
        return
    pictures = caller.pictures(request_id)
    colours = {colour_of(picture) for picture in pictures if picture is not None}
    if None in pictures:
        yield f"{request_id} is COMPLETED, and one of its pictures cannot be fetched"
    elif len(colours) != 1 or painted.get(colours.pop()) != label:
        yield f"{request_id} shows pictures that are not of one run of its own"
