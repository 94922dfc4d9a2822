"""How many states a gateway can tell."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import Final

import uvloop

from bench.load.client import Connection, message, percentile, post_json
from bench.load.requests import tiny_request
from bench.load.roles import SLUG, Workload
from bench.load.stack import Site
from bench.report import Report

_CLIENTS: Final = 200
_SECONDS: Final = 8.0


def polling(report: Report, site: Site, scale: float) -> None:
    """200 clients that ask for the state of a request as fast as they are answered, each on a kept connection."""
    with Connection(site.port) as client:
        accepted = json.loads(client.ask(post_json(f"/v2/{SLUG}", tiny_request(Workload.TINY))))
    request = message("GET", f"/v2/requests/{accepted['request_id']}/status")
    seconds = max(0.5, _SECONDS * scale)
    times, errors = uvloop.run(_poll(site.port, request, seconds))
    report.add(f"status, {_CLIENTS} clients: rate", len(times) / seconds, "per s", note="the clients share the machine")
    report.add(f"status, {_CLIENTS} clients: p50", percentile(times, 0.5), "ms")
    report.add(f"status, {_CLIENTS} clients: p99", percentile(times, 0.99), "ms")
    report.add(f"status, {_CLIENTS} clients: errors", errors, "", goal="== 0")


async def _poll(port: int, request: bytes, seconds: float) -> tuple[list[float], int]:
    """Times in ms of all answers, and how many were none, or not 200."""
    times: list[float] = []
    ends_at = time.monotonic() + seconds
    errors = await asyncio.gather(*(_poll_alone(port, request, ends_at, times) for _ in range(_CLIENTS)))
    return times, sum(errors)


async def _poll_alone(port: int, request: bytes, ends_at: float, times: list[float]) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.monotonic() < ends_at:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
            if not head.startswith(b"HTTP/1.1 200 "):
                return 1
            times.append((time.perf_counter() - began) * 1000)
    except (OSError, asyncio.IncompleteReadError):
        return 1
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return 0
