"""The gateway's settings."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from server.settings import GatewaySettings


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELIGHT_HOST", "0.0.0.0")
    monkeypatch.setenv("FACELIGHT_API_KEYS", " SG_a , SG_b,")
    monkeypatch.setenv("FACELIGHT_FETCH_ALLOW_CIDRS", "10.0.0.0/8, fd00::/8")
    monkeypatch.setenv("FACELIGHT_PUBLIC_URL", "https://images.example/api/")
    settings = GatewaySettings()
    assert settings.api_keys == ("SG_a", "SG_b")
    assert settings.fetch_allow_cidrs == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert settings.public_url == "https://images.example/api"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert GatewaySettings(host=host).api_keys == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "images.example", "localhost.example"])
def test_other_addresses_need_keys_or_a_word(host: str) -> None:
    with pytest.raises(ValidationError, match=f"refusing to listen on {host} without API keys"):
        GatewaySettings(host=host)
    assert GatewaySettings(host=host, api_keys=("k",)).host == host
    assert GatewaySettings(host=host, allow_anonymous=True).host == host
    assert GatewaySettings(host=host, require_key=True).host == host


def test_a_key_is_asked_for_where_there_is_one_or_the_word_for_it() -> None:
    assert not GatewaySettings().asks_for_key
    assert GatewaySettings(api_keys=("k",)).asks_for_key
    assert GatewaySettings(require_key=True).asks_for_key
    assert "secret" not in repr(GatewaySettings(api_keys=("secret",)))


def test_pictures_cost_what_the_settings_say() -> None:
    assert GatewaySettings().cost_of("ic-light", 3) == 3
    settings = GatewaySettings(credit_costs=" ic-light=0.25 ")
    assert settings.cost_of("ic-light", 2) == 0.5
    assert settings.cost_of("pulid-lightning", 2) == 2
    assert GatewaySettings(credit_costs="ic-light=0").cost_of("ic-light", 12) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"api_keys": "Schlüssel"},
        {"api_keys": ("with blank",)},
        {"public_url": "images.example"},
        {"public_url": "https://images.example/?a"},
        {"fetch_allow_cidrs": "ten"},
        {"port": 70_000},
        {"credits": float("inf")},
        *(
            {"credit_costs": cost}
            for cost in ("ic-light", "ic-light=", "ic-light=-1", "ic-light=1e3", "dall-e=1", "=1")
        ),
    ],
)
def test_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(**fields)
