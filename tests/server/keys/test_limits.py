"""What one caller can take of a server's time and disk: places to fetch in, and bytes to upload."""

from __future__ import annotations

import asyncio
import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest

from server.errors import TooManyRequests
from server.intake.fetcher import FetchSlots
from server.limits import UploadQuota
from tests.live_server import png
from tests.server.conftest import MakeSettings
from tests.server.support import KEYS, body_for, serving
from workers.state.connection import connect


def test_only_so_many_at_once_for_one_owner() -> None:
    async def run() -> None:
        slots, inside, most = FetchSlots(3), {"a": 0, "b": 0}, {"a": 0, "b": 0}

        async def fetch(owner: str) -> None:
            async with slots.slot(owner):
                inside[owner] += 1
                most[owner] = max(most[owner], inside[owner])
                await asyncio.sleep(0.001)
                inside[owner] -= 1

        await asyncio.gather(*[fetch(owner) for owner in "ab" * 20])
        assert most == {"a": 3, "b": 3}
        assert not slots._semaphores, "nothing is kept of callers who have left"

    asyncio.run(run())


def test_who_waits_too_long_is_turned_away() -> None:
    async def run() -> None:
        slots = FetchSlots(1, timeout_s=0.05)
        async with slots.slot("a"):
            with pytest.raises(TooManyRequests, match="1 pictures are being fetched"):
                async with slots.slot("a"):
                    raise AssertionError
            async with slots.slot("b"):
                pass
        async with slots.slot("a"):
            pass

    asyncio.run(run())


def test_slow_hosts_of_one_key_do_not_delay_another(make_settings: MakeSettings) -> None:
    arrived, released = threading.Semaphore(0), threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow":
                arrived.release()
                released.wait(10)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Keep the test output clean."""

    settings = make_settings(api_keys=KEYS, fetches_per_key=2, fetch_allow_cidrs="127.0.0.0/8")
    slow_host = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    with slow_host as server, serving(settings) as client, ThreadPoolExecutor(8) as pool:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"

        def submit(path: str, key: str) -> httpx.Response:
            body = body_for("ic-light", subject_image=url + path)
            return httpx.post(client.base_url.join("/v2/ic-light"), json=body, headers={"x-api-key": key}, timeout=30)

        slow = [pool.submit(submit, "/slow", KEYS[0]) for _ in range(4)]
        for _ in range(2):
            arrived.acquire(timeout=10)
        assert "status 404" in submit("/quick", KEYS[1]).json()["error"]
        assert not arrived.acquire(timeout=0.2), "the other two of the first key wait for their turn"
        assert not any(call.done() for call in slow)
        released.set()
        assert {call.result(20).status_code for call in slow} == {400}
        server.shutdown()


def _upload(client: httpx.Client, key: str, data: bytes) -> httpx.Response:
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    return client.post("/upload-asset", json={"data_urls": [url]}, headers={"x-api-key": key})


def test_uploads_of_a_day(make_settings: MakeSettings) -> None:
    noise = png(np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8))
    assert 400_000 < len(noise) < 512 * 1024
    settings = make_settings(api_keys=KEYS, upload_quota_mb=1)
    with serving(settings) as client:
        assert [_upload(client, KEYS[0], noise).status_code for _ in range(3)] == [200, 200, 429]
        refused = _upload(client, KEYS[0], noise)
        assert "1 MB a day" in refused.json()["error"]
        assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
        assert _upload(client, KEYS[1], noise).status_code == 200
        assert client.post("/v2/ic-light", json=body_for("ic-light"), headers={"x-api-key": KEYS[0]}).status_code == 200
    redis = connect(settings.redis_url)
    assert all(redis.ttl(name) > 0 for name in redis.keys("facelight:uploads:*"))


def test_a_refused_upload_counts_nothing(redis_url: str) -> None:
    quota = UploadQuota(connect(redis_url), 100)
    quota.count("a", 60)
    with pytest.raises(TooManyRequests):
        quota.count("a", 41)
    quota.count("a", 40)
    with pytest.raises(TooManyRequests):
        quota.count("a", 1)
