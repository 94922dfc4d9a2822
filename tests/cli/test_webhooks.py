"""`facelight webhooks`, and the secrets that `facelight keys` shows."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from redis import Redis
from standardwebhooks import Webhook as Signer
from typer.testing import CliRunner, Result

from cli.main import app
from workers.state.connection import connect
from workers.state.keys import Keys
from workers.state.outbox import Outbox
from workers.state.record import Webhook, WebhookEvent
from workers.state.records import Records
from workers.state.webhook_secrets import WebhookSecrets

URL = "https://example.com/hook"


@pytest.fixture
def redis(own_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    monkeypatch.setenv("FACELIGHT_REDIS_URL", own_redis_url)
    with connect(own_redis_url) as client:
        yield client


@pytest.fixture
def messages(redis: Redis) -> list[str]:
    """One that was given up, one that waits."""
    records, outbox = Records(redis, 3600, 86_400), Outbox(redis)
    for request_id in ("r1", "r2"):
        webhook = Webhook(URL, (WebhookEvent.COMPLETED,), "receiver", "http://facelight.example")
        records.create(request_id, "ic-light", "foreground", "", {}, webhook=webhook)
        records.cancel(request_id)
    (first, second), _ = outbox.lease(2, 2, {})
    outbox.give_up(first, "answered with status 410")
    outbox.postpone(second, 120, "the URL cannot be reached")
    return [first.id, second.id]


def facelight(*words: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == status, result.output
    return result


def test_what_was_not_delivered_is_listed(messages: list[str]) -> None:
    failed, waiting = json.loads(facelight("webhooks", "list", "--json").stdout)
    assert {name: failed[name] for name in ("id", "url", "failed", "tries", "answer")} == {
        "id": messages[0],
        "url": URL,
        "failed": True,
        "tries": 1,
        "answer": "answered with status 410",
    }
    assert (waiting["id"], waiting["failed"], waiting["answer"]) == (messages[1], False, "the URL cannot be reached")
    lines = facelight("webhooks", "list").stdout.splitlines()
    assert lines[0].startswith(f"{messages[0]}  given up ")
    assert lines[1].startswith(f"{messages[1]}  due in ") and lines[1].endswith(URL)


def test_what_was_given_up_is_tried_again(redis: Redis, messages: list[str]) -> None:
    assert "1 of 1" in facelight("webhooks", "replay", "--failed").stderr
    leased, _ = Outbox(redis).lease(10, 10, {})
    assert [(message.id, message.tries) for message in leased] == [(messages[0], 0)]
    assert "2 of 2" in facelight("webhooks", "replay", *messages).stderr
    leased, _ = Outbox(redis).lease(10, 10, {})
    assert sorted(message.id for message in leased) == sorted(messages)
    assert "nobody:completed" in facelight("webhooks", "replay", "nobody:completed", status=2).output
    facelight("webhooks", "replay", status=2)
    facelight("webhooks", "replay", "--failed", messages[0], status=2)


def test_secrets_are_shown_and_rotated(redis: Redis) -> None:
    def secrets(*words: str) -> list[str]:
        return facelight("keys", "webhook-secret", *words).stdout.split()

    (server,) = secrets()
    facelight("keys", "add", "alice")
    (alice,) = secrets("alice")
    assert len({server, alice}) == 2 and all(secret.startswith("whsec_") for secret in (server, alice))
    Signer(alice)
    assert secrets("alice") == [alice]
    new, old = secrets("alice", "--rotate")
    assert old == alice != new
    key = Keys(redis).all()[0]
    assert WebhookSecrets(redis).get(key.id) == secrets(key.id) == [new, old]
    assert secrets("alice", "--retire") == [new]
    assert secrets() == [server]
    facelight("keys", "webhook-secret", "nobody", status=2)
    facelight("keys", "webhook-secret", "--rotate", "--retire", status=2)
    assert alice not in facelight("keys", "list").output + facelight("keys", "list", "--json").output


def test_the_default_of_a_key(redis: Redis) -> None:
    facelight("keys", "add", "alice")
    assert facelight("keys", "set", "alice", "--webhook", URL).stdout.splitlines()[1].endswith(URL)
    assert Keys(redis).all()[0].webhook == URL
    facelight("keys", "set", "alice", "--rate", "5")
    assert Keys(redis).all()[0].webhook == URL, "what is not named stays"
    facelight("keys", "set", "alice", "--webhook", "ftp://example.com", status=2)
    facelight("keys", "set", "alice", "--webhook", "none")
    assert Keys(redis).all()[0].webhook is None
    facelight("keys", "add", "bob", "--webhook", URL)
    assert Keys(redis).all()[1].webhook == URL
