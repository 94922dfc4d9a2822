"""Settings come from the environment, and one that does not fit is named."""

from __future__ import annotations

import os
import subprocess

import pytest

from server.settings import GatewaySettings
from tests.live_server import FACELIGHT
from workers.errors import SettingsError
from workers.settings import CommonSettings, WorkerSettings, read_settings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELIGHT_RESULT_TTL_S", "60")
    monkeypatch.setenv("FACELIGHT_MODELS", " ic-light, ")
    monkeypatch.setenv("FACELIGHT_DATA_DIR", "/srv/facelight")
    settings = read_settings(WorkerSettings)
    assert (settings.result_ttl_s, settings.models) == (60, ("ic-light",))
    assert settings.store_location == "/srv/facelight/store"


def test_empty_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELIGHT_REDIS_URL", "")
    assert "redis_url" not in read_settings(CommonSettings).model_fields_set


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (WorkerSettings, "FACELIGHT_MODELS", "pulid"),
        (WorkerSettings, "FACELIGHT_CHECKPOINTS", "default,best"),
        (WorkerSettings, "FACELIGHT_CHECKPOINT_MEMORY", "disk"),
        (WorkerSettings, "FACELIGHT_RESULT_TTL_S", "soon"),
        (CommonSettings, "FACELIGHT_STORE", "gs://bucket/pictures"),
        (CommonSettings, "FACELIGHT_STORE", "s3://Bucket_/pictures"),
        (CommonSettings, "FACELIGHT_STORE", "s3://bucket/with blank"),
        (CommonSettings, "FACELIGHT_OFFLINE", "perhaps"),
        (GatewaySettings, "FACELIGHT_PORT", "70000"),
        (GatewaySettings, "FACELIGHT_FETCH_ALLOW_CIDRS", "10.0.0.0/99"),
    ],
)
def test_what_does_not_fit_is_named(
    kind: type[CommonSettings], name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        read_settings(kind)


@pytest.mark.parametrize("location", ["s3://pictures", "s3://pictures/", "s3://pic.tures-1/a/b", "/mnt/store", "store"])
def test_places_for_pictures(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELIGHT_STORE", location)
    assert read_settings(CommonSettings).store_location == location


def test_an_open_door_needs_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELIGHT_HOST", "0.0.0.0")
    with pytest.raises(SettingsError, match="FACELIGHT_ALLOW_ANONYMOUS"):
        read_settings(GatewaySettings)
    monkeypatch.setenv("FACELIGHT_ALLOW_ANONYMOUS", "true")
    assert read_settings(GatewaySettings).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("process", "prefix"), [("serve", "shared"), ("gateway", "a b"), ("worker", "a b"), ("worker", "")]
)
def test_another_prefix_of_the_queues_keys_is_refused(process: str, prefix: str) -> None:
    """RQ would listen under it, or fail on it when it is imported; the scripts that Redis runs would not know it."""
    ended = subprocess.run(
        [FACELIGHT, process], env={**os.environ, "RQ_KEY_PREFIX": prefix}, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode in (1, 2)
    assert "RQ_KEY_PREFIX must not be set" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_the_prefix_that_the_keys_have_anyway_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RQ_KEY_PREFIX", "rq")
    assert read_settings(CommonSettings)
