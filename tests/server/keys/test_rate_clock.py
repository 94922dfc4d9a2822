"""A key's requests per minute are counted by Redis' clock: those of the gateways may say what they like."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.faults.processes.fake_clock import set_clock
from tests.faults.processes.members import Member
from tests.faults.processes.waiting import until
from tests.live_server import free_port
from tests.server.support import body_for
from workers.state.connection import connect
from workers.state.keys import Keys


@contextmanager
def gateways(redis_url: str, folder: Path, *ahead_s: float) -> Iterator[list[str]]:
    """URLs of gateway processes whose wall clocks are so many seconds ahead."""
    members = []
    for number, seconds in enumerate(ahead_s):
        data_dir = folder / f"data-{number}"
        data_dir.mkdir()
        set_clock(data_dir, "gateway", seconds)
        settings = {"redis_url": redis_url, "data_dir": data_dir, "port": free_port(), "require_key": "true"}
        environment = {f"FACELIGHT_{name.upper()}": str(value) for name, value in settings.items()}
        command = (sys.executable, "-m", "tests.faults.processes.gateway_with_fake_clock")
        members.append(Member(f"gateway-{number}", command, environment, folder))
    urls = [f"http://127.0.0.1:{member.environment['FACELIGHT_PORT']}" for member in members]
    try:
        for member in members:
            member.start()
        for url in urls:
            until(lambda url=url: answers(url), "a gateway")
        yield urls
    finally:
        for member in members:
            member.end()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False


def test_gateways_whose_clocks_differ_have_one_limit(redis_url: str, tmp_path: Path) -> None:
    _, secret = Keys(connect(redis_url)).add("alice", rate=4)
    with gateways(redis_url, tmp_path, 0, 90) as urls:

        def submit(url: str) -> httpx.Response:
            return httpx.post(f"{url}/v2/ic-light", json=body_for("ic-light"), headers={"x-api-key": secret})

        sent = [submit(url) for url in 3 * urls]
        assert [answer.status_code for answer in sent] == [200] * 4 + [429] * 2
        left = [answer.headers["ratelimit"].partition(";t=")[0] for answer in sent]
        assert left == [f'"requests";r={number}' for number in (3, 2, 1, 0, 0, 0)]
        for refused in (submit(url) for url in urls):
            assert refused.status_code == 429
            assert 30 <= int(refused.headers["retry-after"]) <= 60
