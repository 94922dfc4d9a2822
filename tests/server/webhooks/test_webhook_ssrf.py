"""The corpus of hostile URLs as webhooks: refused when a request names one, and again whenever one would be sent."""

from __future__ import annotations

import time
import uuid

import pytest

from server.intake.webhook import receiver_of
from tests.server.intake.ssrf_corpus import CASES, PUBLIC
from tests.server.intake.test_ssrf import Door, door  # noqa: F401 - a fixture
from tests.server.support import FakeWorker, body_for
from workers.state.outbox import Outbox
from workers.state.record import Webhook, WebhookEvent

FEW = CASES[::11]
LEADS_OUT = ("rebind.test", "127.0.0.1\\@photos.example")
"""Of which the host is public when a request names it."""
SLOW = [pytest.param(case, marks=() if case in FEW else pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize("case", SLOW)
def test_no_request_may_name_it(door: Door, case: str) -> None:  # noqa: F811
    """But a public host that redirects: where to is seen when something is sent."""
    door.tried.clear()
    answer = door.client.post("/v2/ic-light", json=body_for("ic-light", webhook=door.url(case)))
    if "{host}" in case or any(words in case for words in LEADS_OUT):
        assert answer.status_code in (200, 400)
    else:
        assert answer.status_code == 400, answer.text
        message = answer.json()["error"]
        assert message.startswith("webhook: ")
        assert not any(secret in message for secret in ("127.", "169.254", "::1", str(door.victims.port), "/etc"))
    door.check_nobody_inside_has_heard()


@pytest.mark.parametrize("case", SLOW)
def test_nothing_is_sent_there(door: Door, case: str) -> None:  # noqa: F811
    """The default of a key is not checked before: here a record names it."""
    door.tried.clear()
    worker, request_id, url = FakeWorker(door.settings), str(uuid.uuid4()), door.url(case)
    outbox = Outbox(worker.redis)
    webhook = Webhook(url, (WebhookEvent.COMPLETED,), "receiver", "http://facelight.example")
    params = {"seed": 1, "prompt": "", "number_of_images": 1, "output_format": "png"}
    worker.records.create(request_id, "ic-light", "foreground", "", params, webhook=webhook)
    worker.records.cancel(request_id)
    deadline = time.monotonic() + 20
    while not (found := [one for one in outbox.outstanding() if one.id.startswith(request_id) and one.tries]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not found[0].answer.startswith("answered with status 2")
    door.check_nobody_inside_has_heard()


def test_what_is_public_is_sent(door: Door) -> None:  # noqa: F811
    """The refusals mean something only if this works; the host there takes no POST, which is an answer."""
    worker = FakeWorker(door.settings)
    request_id = door.client.submit(webhook=f"{door.host}/hook")
    door.client.delete(f"/v2/requests/{request_id}")
    deadline = time.monotonic() + 20
    while not (
        found := [one for one in Outbox(worker.redis).outstanding() if one.id.startswith(request_id) and one.tries]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert found[0].answer == "answered with status 501"
    assert (PUBLIC, int(door.host.rpartition(":")[2])) in door.tried


def test_receivers_are_owners_and_origins() -> None:
    first = receiver_of("alice", "https://example.com/a?b")
    assert receiver_of("alice", "https://example.com/other") == first
    others = [("bob", "https://example.com/a"), ("alice", "http://example.com/"), ("alice", "https://example.com:444/")]
    assert first not in {receiver_of(*other) for other in others}
