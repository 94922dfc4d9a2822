"""`facelight keys`, as an operator types it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli import serve
from cli.main import app
from server.settings import GatewaySettings
from tests.faults.processes.shim import Shim
from workers.errors import NameTaken
from workers.state.connection import connect
from workers.state.keys import Keys, is_well_formed

Facelight = Callable[..., Result]


@pytest.fixture
def facelight(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Facelight:
    """Types `facelight keys` and what follows, for a server that asks for keys."""
    for name in os.environ:
        if name.startswith("FACELIGHT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FACELIGHT_REDIS_URL", redis_url)
    monkeypatch.setenv("FACELIGHT_REQUIRE_KEY", "true")

    def type_it(*words: str, status: int = 0) -> Result:
        result = CliRunner().invoke(app, ["keys", *words])
        assert result.exit_code == status, result.output
        return result

    return type_it


@pytest.fixture
def keys(redis_url: str) -> Keys:
    return Keys(connect(redis_url))


def listed(facelight: Facelight) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(facelight("list", "--json").stdout)
    return found


def test_a_key_is_told_once_and_alone_on_standard_output(facelight: Facelight, keys: Keys) -> None:
    options = ["--scope", "ic-light", "--scope", "pulid-lightning", "--rate", "60", "--credits", "12.5"]
    added = facelight("add", "alice's laptop", *options)
    secret = added.stdout.removesuffix("\n")
    key = keys.find(secret)
    assert key is not None
    assert (key.name, key.rate, key.credits) == ("alice's laptop", 60, 12.5)
    assert key.scopes == ("ic-light", "pulid-lightning")
    assert key.id in added.stderr
    assert secret not in added.stderr + facelight("list").output + facelight("list", "--json").output


def test_the_list_as_a_table(facelight: Facelight) -> None:
    assert " ".join(facelight("list").stdout.split()) == "ID NAME MODELS PER MINUTE CREDITS CREATED LAST USED WEBHOOK"
    facelight("add", "free")
    facelight("add", "bound", "--scope", "ic-light", "--rate", "5", "--credits", "1234567.25")
    _, free, bound = facelight("list").stdout.splitlines()
    assert free.split()[1:6] == ["free", "all", "no", "limit", "not"]
    assert free.split()[-2:] == ["never", "none"]
    assert bound.split()[1:5] == ["bound", "ic-light", "5", "1234567.25"]


def test_the_list_as_json(facelight: Facelight, keys: Keys) -> None:
    secret = facelight("add", "alice", "--rate", "5").stdout.strip()
    keys.find(secret)
    (alice,) = listed(facelight)
    assert alice["id"].startswith("key_")
    assert {name: alice[name] for name in ("name", "scopes", "rate", "credits")} == {
        "name": "alice",
        "scopes": [],
        "rate": 5,
        "credits": None,
    }
    this_year = time.strftime("%Y", time.gmtime())
    assert alice["created_at"].startswith(this_year) and alice["created_at"].endswith("Z")
    assert alice["last_used"].startswith(this_year)


def test_rotating_and_revoking(facelight: Facelight, keys: Keys) -> None:
    old = facelight("add", "alice").stdout.strip()
    key_id = listed(facelight)[0]["id"]
    new = facelight("rotate", key_id).stdout.strip()
    assert keys.find(old) is None
    assert keys.find(new) is not None
    facelight("revoke", key_id)
    assert keys.find(new) is None
    assert listed(facelight) == []


def test_changing_what_a_key_may_do(facelight: Facelight) -> None:
    facelight("add", "alice", "--credits", "10", "--rate", "5", "--scope", "ic-light")
    key_id = listed(facelight)[0]["id"]
    for words, expected in (
        (["--credits", "+2.5"], {"credits": 12.5, "rate": 5, "scopes": ["ic-light"]}),
        (["--credits", "7"], {"credits": 7, "rate": 5, "scopes": ["ic-light"]}),
        (["--rate", "none", "--scope", "all"], {"credits": 7, "rate": None, "scopes": []}),
        (["--credits", "none"], {"credits": None, "rate": None, "scopes": []}),
        ([], {"credits": None, "rate": None, "scopes": []}),
    ):
        assert key_id in facelight("set", key_id, *words).stdout
        (key,) = listed(facelight)
        assert {name: key[name] for name in expected} == expected


def test_a_key_is_named_by_its_id_or_its_name(facelight: Facelight, keys: Keys) -> None:
    old = facelight("add", "alice's laptop", "--credits", "5").stdout.strip()
    facelight("add", "bob")
    key_id = listed(facelight)[0]["id"]
    assert "alice's laptop" in facelight("set", "alice's laptop", "--credits", "+1").stdout
    new = facelight("rotate", " alice's laptop ").stdout.strip()
    found = keys.find(new)
    assert found is not None
    assert (found.id, found.credits, keys.find(old)) == (key_id, 6, None)
    assert facelight("revoke", "alice's laptop").stderr == f"Key {key_id} is revoked.\n"
    assert keys.find(new) is None
    assert [key["name"] for key in listed(facelight)] == ["bob"]


@pytest.mark.parametrize("again", ["zoë", " zoë ", "zoe\N{COMBINING DIAERESIS}"])
def test_two_keys_may_not_share_a_name(facelight: Facelight, keys: Keys, again: str) -> None:
    secret = facelight("add", "zoë").stdout.strip()
    key_id = listed(facelight)[0]["id"]
    refused = facelight("add", again, status=2)
    assert refused.stderr == f"facelight: There is a key called zoë already: {key_id}.\n"
    assert refused.stdout == ""
    assert [key["id"] for key in listed(facelight)] == [key_id]
    assert keys.find(secret) is not None
    facelight("add", "zoe")
    facelight("revoke", key_id)
    facelight("add", again)


def test_of_two_keys_of_one_name_at_once_one_is_made(facelight: Facelight, redis_url: str) -> None:
    def add(_: int) -> bool:
        try:
            Keys(connect(redis_url)).add("alice")
        except NameTaken:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(16))) == 1
    assert [key["name"] for key in listed(facelight)] == ["alice"]


def test_an_old_redis_with_two_keys_of_a_name(facelight: Facelight, keys: Keys, redis_url: str) -> None:
    secrets = [facelight("add", name).stdout.strip() for name in ("alice", "bob")]
    ids = [key["id"] for key in listed(facelight)]
    connect(redis_url).hset(f"facelight:key:{ids[1]}", "name", "alice")
    for words in (["revoke", "alice"], ["rotate", "alice"], ["set", "alice", "--credits", "5"]):
        told = facelight(*words, status=2).stderr
        assert "2 keys are called alice" in told
        assert all(key_id in told for key_id in ids)
    assert all(map(keys.find, secrets)), "nothing has changed"
    assert "called alice already" in facelight("add", "alice", status=2).stderr
    facelight("revoke", ids[1])
    facelight("revoke", "alice")
    assert listed(facelight) == []


def test_an_answer_that_is_lost_is_told_all_the_same(
    facelight: Facelight, redis_socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks once Redis has made the change: it is made once, and its outcome told."""
    with Shim(redis_socket) as shim:
        monkeypatch.setenv("FACELIGHT_REDIS_URL", shim.url)

        def type_and_lose(*words: str, status: int = 0) -> Result:
            before = shim.lost
            shim.lose_answer(b"EVALSHA")
            result = facelight(*words, status=status)
            assert shim.lost == before + 1
            return result

        secret = type_and_lose("add", "alice", "--credits", "7").stdout.strip()
        assert is_well_formed(secret)
        (alice,) = listed(facelight)
        for total in (107, 207):
            assert f" {total} " in type_and_lose("set", alice["id"], "--credits", "+100").stdout
            assert listed(facelight)[0]["credits"] == total
        new = type_and_lose("rotate", "alice").stdout.strip()
        found = Keys(connect(shim.url)).find(new)
        assert found is not None
        assert found.id == alice["id"]
        assert type_and_lose("revoke", alice["id"]).stderr == f"Key {alice['id']} is revoked.\n"
        assert listed(facelight) == []
        assert "There is no key" in type_and_lose("revoke", alice["id"], status=2).stderr


def test_unknown_keys_are_refused(facelight: Facelight) -> None:
    for words in (["revoke"], ["rotate"], ["set"]):
        assert facelight(*words, "key_0", status=2).stderr == "facelight: There is no key key_0.\n"
    facelight("add", "free")
    key_id = listed(facelight)[0]["id"]
    assert "no metered key" in facelight("set", key_id, "--credits", "+1", status=2).stderr


@pytest.mark.parametrize(
    "words",
    [
        ["add", ""],
        ["add", "a" * 65],
        ["add", "two\nlines"],
        ["add", "  "],
        ["add", "key_0123456789abcdef"],
        ["add", "x", "--scope", "dall-e"],
        *(["add", "x", "--rate", rate] for rate in ("0", "-1", "1.5", "many", "+1")),
        *(["add", "x", "--credits", credits] for credits in ("-1", "nan", "inf", "much")),
        ["set", "key_0", "--credits", "+none"],
        ["set", "key_0", "--credits", "+-1"],
    ],
)
def test_nonsense_is_refused(facelight: Facelight, words: list[str]) -> None:
    assert facelight(*words, status=2).stdout == ""
    assert listed(facelight) == []


def test_a_server_that_asks_for_no_key_is_mentioned(facelight: Facelight, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "FACELIGHT_REQUIRE_KEY" not in facelight("add", "alice").stderr
    monkeypatch.delenv("FACELIGHT_REQUIRE_KEY")
    assert "FACELIGHT_REQUIRE_KEY=true" in facelight("add", "bob").stderr


def test_a_redis_that_is_away_is_told_in_a_sentence(facelight: Facelight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELIGHT_REDIS_URL", "redis://127.0.0.1:1/0")
    for words in (["add", "alice"], ["list"], ["revoke", "key_0"]):
        assert "facelight: Redis cannot be used" in facelight(*words, status=2).stderr


def test_the_redis_is_the_one_that_serve_starts(tmp_path: Path) -> None:
    assert serve.redis_url(GatewaySettings(redis_url="redis://queue:6379/3")) == "redis://queue:6379/3"
    assert serve.redis_url(GatewaySettings(data_dir=tmp_path)) == f"unix://{tmp_path.resolve()}/redis/socket"


@pytest.mark.parametrize("credits", ["1e308", "+1e308"])
def test_credits_beyond_counting_are_refused(facelight: Facelight, keys: Keys, credits: str) -> None:
    facelight("add", "bob", "--credits", "5")
    facelight("set", "bob", "--credits", credits, status=2)
    assert [key.credits for key in keys.all()] == [5]
