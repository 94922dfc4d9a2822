"""What the client library would send to its vendor comes here, or is not sent at all, after the documentation's lines.

Nothing leaves this machine: `conftest.py` sees to that, and knows what was tried.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import segmind
from segmind import SegmindClient, SegmindError
from segmind.resource import Namespace

from tests.contract.client_lines import PAGES, blocks, redirected_client, redirecting_block, run_block
from tests.live_server import API_KEY, LiveServer

QUICK = {"prompt": "x", "width": 256, "height": 256, "steps": 1, "highres_scale": 1}


@pytest.fixture
def client(live: LiveServer, monkeypatch: pytest.MonkeyPatch) -> SegmindClient:
    monkeypatch.setenv("SEGMIND_API_KEY", API_KEY)
    return redirected_client(live.url, monkeypatch)


def vendor_calls() -> list[Any]:
    """Every call of every namespace of the library, by name."""
    client = SegmindClient()
    namespaces = {name: getattr(client, name) for name, _ in inspect.getmembers(SegmindClient, _is_property)}
    return [
        pytest.param(name, call, id=f"{name}.{call}")
        for name, namespace in namespaces.items()
        for call, _ in inspect.getmembers(namespace, inspect.ismethod)
        if not call.startswith("_")
    ]


def _is_property(member: object) -> bool:
    return isinstance(member, property)


def arguments(call: Any, photo: Path) -> dict[str, Any]:
    """Something for each argument that must be there, and a workflow or poll to ask for."""
    needed = inspect.signature(call).parameters.values()
    given = {parameter.name: "0123" for parameter in needed if parameter.default is inspect.Parameter.empty}
    given |= {name: "0123" for name in ("workflow_id", "poll_id") if name in inspect.signature(call).parameters}
    return given | ({"file_paths": str(photo)} if "file_paths" in given else {})


def test_both_pages_have_the_same_block() -> None:
    assert len({redirecting_block(page) for page in PAGES}) == 1


def test_the_library_has_the_calls_that_the_table_names() -> None:
    calls = [call.id for call in vendor_calls()]
    page = Path(__file__).parents[2].joinpath("docs", "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z_., `]+) \| .*segmind\.com.* \| (.+) \|$", page, re.MULTILINE)
    named = {name: told for cell, told in rows for name in re.findall(r"`(\w+)", cell)}
    assert {call.partition(".")[0] for call in calls} == named.keys()
    assert {name for name, told in named.items() if told != "refused"} == {"files"}
    assert len(calls) >= 20


@pytest.mark.parametrize(("name", "call"), vendor_calls())
def test_no_call_is_sent_to_the_vendor(
    client: SegmindClient, live: LiveServer, photos: Path, name: str, call: str
) -> None:
    namespace: Namespace = getattr(client, name)
    method = getattr(namespace, call)
    if name == "files":
        (url,) = method(str(photos / "cat.png"))["file_urls"]
        assert url.startswith(f"{live.url}/files/")
        return
    with pytest.raises(SegmindError, match=rf"Nothing is sent to \w+\.(spotprod\.)?segmind\.com, .*{live.url}"):
        method(**arguments(method, photos / "cat.png"))


@pytest.mark.parametrize("name", ["files", "accounts", "models"])
def test_with_the_base_url_alone_they_would_be_sent(
    live: LiveServer, photos: Path, loopback_only: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What the documentation warns of."""
    monkeypatch.setattr(segmind, "_default_client", None)
    (one_line,) = [line for line in blocks("README.md")[0].splitlines() if "_default_client =" in line]
    run_block(one_line, live.url, segmind=segmind, SegmindClient=SegmindClient)
    assert segmind._default_client is not None
    namespace: Any = getattr(segmind._default_client, name)
    with pytest.raises(httpx.ConnectError):
        if name == "files":
            namespace.upload(str(photos / "cat.png"))
        else:
            next(getattr(namespace, call) for call in ("list", "current") if hasattr(namespace, call))()
    assert [host.rpartition("segmind.com")[1:] for host in loopback_only] == [("segmind.com", "")]
    loopback_only.clear()


def test_the_alternatives_of_the_documentation_work(client: SegmindClient, live: LiveServer, photo_url: str) -> None:
    result = client.run("ic-light", subject_image=f"{photo_url}/cat.png", **QUICK)
    (block,) = [block for block in blocks("docs/api.md") if "accounts.current()" in block]
    first, *expressions = block.splitlines()
    names = {"segmind": segmind, "SERVER": live.url, "request_id": result["request_id"]}
    exec(first, names)
    told = {line.partition("  # ")[2]: eval(line, names) for line in expressions}
    assert told.keys() == {"accounts.current()", "models.list()", "generations.get(request_id)"}
    assert told["accounts.current()"] >= 0
    assert told["models.list()"]["ic-light"]["ready"] is True
    assert told["generations.get(request_id)"]["output"] == result["output"]
