"""What open streams of events cost a gateway: memory, and the time of other calls; `python -m bench.events`, 1 minute.

Two gateways share a Redis with 1,000 requests that wait. Each request is followed by a stream of one of the gateways;
both are asked for states in turn, so that what disturbs one of them disturbs the other.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: the project is what lies around this folder
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import json
import socket
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from typing import Final

from bench.load.client import Connection, in_turn, message, percentile, post_json
from bench.load.requests import tiny_request
from bench.load.roles import SLUG, Workload
from bench.load.stack import Stack, answers, free_port, resident_mib, stack, wait_until
from bench.report import RESULTS, Report
from server.http.server import raise_descriptor_limit

_STREAMS: Final = 1000
_CALLS: Final = 8000
_WARM_UP: Final = 500
_SETTLE_S: Final = 3.0
_BUDGET_S: Final = 240


def main(arguments: list[str]) -> None:
    """Measure with gateways and a Redis of their own; no worker takes the requests."""
    options = _parser().parse_args(arguments)
    count, calls = max(10, round(_STREAMS * options.scale)), max(100, round(_CALLS * options.scale))
    raise_descriptor_limit(2 * count)
    with ExitStack() as opened:
        report = opened.enter_context(Report("events", folder=options.out, budget_s=_BUDGET_S))
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="facelight-bench-"))
        own = opened.enter_context(stack(Path(folder)))
        (without, _), (beside, pid) = _gateway(own, opened), _gateway(own, opened)
        clients = [opened.enter_context(Connection(port)) for port in (without, beside)]
        submission = post_json(f"/v2/{SLUG}", tiny_request(Workload.TINY))
        ids = [json.loads(clients[0].ask(submission))["request_id"] for _ in range(count)]
        status = message("GET", f"/v2/requests/{ids[0]}/status")
        exchanges = [partial(client.ask, status) for client in clients]
        in_turn(exchanges, _WARM_UP, 0)  # what a gateway allocates once
        before_mib = resident_mib(pid)
        for request_id in ids:
            opened.enter_context(_open_stream(beside, request_id))
        time.sleep(_SETTLE_S)
        times = in_turn(exchanges, calls, _WARM_UP)
        grown_mib = resident_mib(pid) - before_mib
        report.add(f"{count} open streams: memory more than none", grown_mib, "MiB", goal="<= 143", note="150 MB")
        for share, called in ((0.5, "p50"), (0.99, "p99")):
            one, other = (percentile(found, share) for found in times)
            note = f"{other:.2f} ms against {one:.2f} ms; {calls} calls of each, in turn"
            report.add(f"{count} open streams: status {called}, with / without", other / one, "x", "<= 1.1", note)


def _gateway(own: Stack, opened: ExitStack) -> tuple[int, int]:
    """Run a gateway that takes all the streams and requests; its port and process id."""
    port = free_port()
    process = opened.enter_context(own.running("server", port=str(port), max_connections="5000", queue_limit="5000"))
    wait_until(lambda: answers(port, "/health/live"))
    return port, process.pid


def _open_stream(port: int, request_id: str) -> socket.socket:
    """Follow a request; returns the connection once its first event has come."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(message("GET", f"/v2/requests/{request_id}/events"))
    received = b""
    while b"event: status" not in received:
        part = connection.recv(65536)
        assert part, received
        received += part
    return connection


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.events", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how many streams and calls, compared to a whole run")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
