"""A hub of one's own, and impatience."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from huggingface_hub import constants

from cli.weights.download import Network, RetryPolicy
from tests.cli.weights.hub import Hub

TOKEN = "hf_secret"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub, to which the client in this process turns."""
    with Hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def network(hub: Hub) -> Network:
    """A client of `hub` that waits for nothing."""
    return Network(RetryPolicy(attempts=3, pause_s=0.01))
