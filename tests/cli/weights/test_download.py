"""Bytes from servers that fail in every way there is, into one file."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from cli.weights.download import Network
from models.errors import WeightsError
from tests.cli.weights.conftest import TOKEN
from tests.cli.weights.hub import Fault, Hub, git_sha1, sha256
from tests.cli.weights.making import DATA, item, on_hub, on_server

ANYWHERE = pytest.mark.parametrize("publish", [on_hub, on_server])


@pytest.fixture
def part(tmp_path: Path) -> Path:
    path = tmp_path / "part"
    path.touch()
    return path


def names(hub: Hub, method: str = "GET") -> list[str]:
    """The hosts that were asked, and for which range."""
    return [seen.headers.get("range", "whole") for seen in hub.seen if seen.method == method and seen.sent]


def test_the_hub_tells_size_and_hash_of_large_files_and_the_git_hash_of_small_ones(hub: Hub, network: Network):
    large, small = network.info(item(on_hub(hub, "large"))), network.info(item(on_hub(hub, "small", b"{}")))
    assert (large.size, large.sha256, large.git_sha1) == (len(DATA), sha256(DATA), None)
    assert (small.size, small.sha256, small.git_sha1) == (2, None, git_sha1(b"{}"))


@ANYWHERE
def test_a_file_comes_whole(hub: Hub, network: Network, part: Path, publish):
    counts: list[int] = []
    network.fetch(item(publish(hub, "w")), part, counts.append)
    assert part.read_bytes() == DATA
    assert sum(counts) == len(DATA)


@ANYWHERE
def test_what_is_there_is_not_sent_again(hub: Hub, network: Network, part: Path, publish):
    part.write_bytes(DATA[:100_000])
    network.fetch(item(publish(hub, "w")), part, lambda count: None)
    assert part.read_bytes() == DATA
    assert hub.sent() == len(DATA) - 100_000


@ANYWHERE
def test_a_cut_connection_is_taken_up_again(hub: Hub, network: Network, part: Path, publish):
    hub.faults[item(publish(hub, "w")).origin.rsplit("/", 1)[-1]] += [Fault(cut_after=150_000)] * 2
    network.fetch(item(publish(hub, "w")), part, lambda count: None)
    assert part.read_bytes() == DATA
    assert len(names(hub)) == 3
    assert hub.sent() <= len(DATA) + 2 * 65_536


@ANYWHERE
def test_a_server_in_trouble_is_asked_again(hub: Hub, network: Network, part: Path, publish):
    name = item(publish(hub, "w")).origin.rsplit("/", 1)[-1]
    hub.faults[name] += [Fault(status=500), Fault(status=503)]
    network.fetch(item(publish(hub, "w")), part, lambda count: None)
    assert part.read_bytes() == DATA


@ANYWHERE
def test_but_not_for_ever(hub: Hub, network: Network, part: Path, publish):
    name = item(publish(hub, "w")).origin.rsplit("/", 1)[-1]
    hub.faults[name] += [Fault(status=500)] * 3
    with pytest.raises(WeightsError, match=r"answers 500, 3 times in a row.*what has come is kept"):
        network.fetch(item(publish(hub, "w")), part, lambda count: None)


def test_progress_between_failures_renews_the_patience(hub: Hub, network: Network, part: Path):
    hub.faults["w.onnx"] += [Fault(cut_after=70_000)] * 4
    network.fetch(item(on_server(hub, "w")), part, lambda count: None)
    assert part.read_bytes() == DATA


def test_a_server_without_ranges_sends_the_whole_again(hub: Hub, network: Network, part: Path):
    part.write_bytes(b"x" * 1000)
    counts: list[int] = []
    hub.faults["w.onnx"].append(Fault(no_ranges=True))
    network.fetch(item(on_server(hub, "w")), part, counts.append)
    assert part.read_bytes() == DATA
    assert sum(counts) == len(DATA) - 1000, "what was thrown away is counted back"


@ANYWHERE
def test_nothing_is_asked_of_a_complete_file(hub: Hub, network: Network, part: Path, publish):
    part.write_bytes(DATA)
    network.fetch(item(publish(hub, "w")), part, lambda count: None)
    assert part.read_bytes() == DATA


def test_the_token_is_shown_to_the_hub_and_to_nobody_else(hub: Hub, network: Network, part: Path, tmp_path: Path):
    network.info(item(on_hub(hub, "w")))
    network.fetch(item(on_hub(hub, "w")), part, lambda count: None)
    network.fetch(item(on_server(hub, "plain")), tmp_path / "other", lambda count: None)
    shown = {(seen.host.split(":")[0], seen.headers.get("authorization")) for seen in hub.seen}
    assert shown == {("127.0.0.1", f"Bearer {TOKEN}"), ("127.0.0.2", None)}


def test_a_redirect_to_a_stranger_takes_no_token_along(hub: Hub, network: Network, part: Path):
    hub.plain["/stranger"] = DATA
    hub.put("some/repo", "main", "small.json", b"{}")
    hub.faults["small.json"].append(Fault(elsewhere=f"{hub.cdn}/stranger"))
    network.fetch(item(on_hub(hub, "small", b"{}")), part, lambda count: None)
    strangers = [seen for seen in hub.seen if seen.path == "/stranger"]
    assert [seen.headers.get("authorization") for seen in strangers] == [None] * len(strangers)


@pytest.mark.parametrize(("status", "hint"), [(401, "HF_TOKEN"), (403, "accept its licence"), (404, "is not there")])
def test_a_refusal_is_told_at_once_with_a_hint(hub: Hub, network: Network, part: Path, status: int, hint: str):
    hub.faults["w.safetensors"] += [Fault(status=status)] * 9
    with pytest.raises(WeightsError, match=rf"answers {status} \(.*{hint}"):
        network.fetch(item(on_hub(hub, "w", b"{}")), part, lambda count: None)
    assert len(hub.seen) == 1


def test_a_file_that_the_hub_lacks_is_told_before_anything_comes(hub: Hub, network: Network):
    entry = on_hub(hub, "w")
    hub.files.clear()
    with pytest.raises(WeightsError, match=r"w\.safetensors cannot be fetched: .* answers 404"):
        network.info(item(entry))


def test_a_server_that_is_no_hub_is_called_so(hub: Hub, network: Network):
    entry = on_hub(hub, "w")
    hub.plain.update(hub.files)
    hub.files.clear()
    with pytest.raises(WeightsError, match="HF_ENDPOINT"):
        network.info(item(entry))


def test_a_server_that_is_not_there(hub: Hub, network: Network, part: Path, monkeypatch: pytest.MonkeyPatch):
    entry = item(on_hub(hub, "w"))
    dead = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", dead)
    with pytest.raises(WeightsError, match=r"w: w\.safetensors cannot be fetched: .*3 times in a row"):
        network.info(entry)
    with pytest.raises(WeightsError, match="3 times in a row"):
        network.fetch(entry, part, lambda count: None)


def test_a_transfer_can_be_stopped(hub: Hub, network: Network, part: Path):
    class Enough(Exception):
        pass

    def on_bytes(count: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        network.fetch(item(on_hub(hub, "w")), part, on_bytes)
    assert 0 < part.stat().st_size < len(DATA)
