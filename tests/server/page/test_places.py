"""Where the page may be: below a proxy's prefix, and nowhere but on its own server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.server.page.browser import cards, choose_model, downloaded, drop, order, send, visiting
from tests.server.page.proxies import PREFIXES, caddy, small_proxy
from tests.server.support import Client, FakeWorker, Host, image_field


@pytest.fixture(params=["a small proxy", "Caddy"])
def proxy(request: pytest.FixtureRequest, client: Client, tmp_path: Path) -> Iterator[str]:
    """URL of a proxy that serves the gateway below prefixes only."""
    upstream = str(client.base_url)
    with caddy(upstream, tmp_path) if request.param == "Caddy" else small_proxy(upstream) as url:
        yield url


@pytest.mark.parametrize("slug", ["ic-light", "pulid-lightning"])
def test_everything_works_below_a_prefix(browser: Browser, proxy: str, worker: FakeWorker, slug: str) -> None:
    with visiting(browser, f"{proxy}{PREFIXES[0]}/") as visit:
        page = visit.page
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        choose_model(page, slug)
        card = order(page)
        request_id = worker.await_request(slug)
        assert httpx.get(f"{proxy}{PREFIXES[0]}/v2/requests/{request_id}").json()["status"] == "QUEUED"
        worker.records.report(worker.start(request_id), 3, 4)
        expect(card).to_contain_text("Step 3 of 4")
        (output,) = worker.complete(request_id)
        assert downloaded(card)[1] == worker.store.read(output.name)
        told = httpx.get(f"{proxy}{PREFIXES[0]}/v2/requests/{request_id}").json()
        assert told["output"] == f"{proxy}{PREFIXES[0]}/files/{output.name}"
        page.reload()
        expect(card).to_contain_text("kept for")
        if slug == "ic-light":
            expect(card.get_by_alt_text("Before")).to_be_visible()
        else:
            card.get_by_role("button", name="Relight this").click()
            expect(page.get_by_alt_text("The chosen picture")).to_be_visible()
            page.locator("#field-prompt").fill("moonlight")
            send(page)
            record = worker.record(worker.await_request("ic-light"))
            assert worker.store.read(record.params[image_field("ic-light")]) == worker.store.read(output.name)
        paths = [urlsplit(url).path for url in asked if url.startswith("http")]
        assert len(paths) > 20
        assert [path for path in paths if not path.startswith(f"{PREFIXES[0]}/")] == []


def test_code_names_the_address_that_the_browser_uses(browser: Browser, proxy: str) -> None:
    with visiting(browser, f"{proxy}{PREFIXES[0]}/") as visit:
        drop(visit.page)
        visit.page.get_by_text("Code for these settings").click()
        expect(visit.page.locator("pre code")).to_contain_text(f"{proxy}{PREFIXES[0]}/v2/ic-light")


def test_two_servers_below_one_host_share_no_list(browser: Browser, proxy: str, worker: FakeWorker) -> None:
    context = browser.new_context()
    with visiting(browser, f"{proxy}{PREFIXES[0]}/", context=context) as visit:
        order(visit.page, "of the first")
    with visiting(browser, f"{proxy}{PREFIXES[1]}/", context=context) as visit:
        expect(visit.page.locator("#field-prompt")).to_have_value("")
        expect(cards(visit.page)).to_have_count(0)
    with visiting(browser, f"{proxy}{PREFIXES[0]}/", context=context) as visit:
        expect(visit.page.locator("#field-prompt")).to_have_value("of the first")
        expect(cards(visit.page)).to_have_count(1)
    context.close()


_INLINE_SCRIPT = """
    const script = document.createElement("script");
    script.textContent = "window.hasRun = true";
    document.body.append(script);
"""
_PICTURE = "url => { document.body.append(Object.assign(new Image(), { src: url })); }"
_STYLE = "document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">red</p>')"


def test_an_inline_script_does_not_run_and_is_noticed(browser: Browser, client: Client) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        with visit.page.expect_console_message(lambda said: "inline script" in said.text):
            visit.page.evaluate(_INLINE_SCRIPT)
        assert visit.page.evaluate("window.hasRun") is None
        assert "inline script" in visit.complaints.pop()


def test_an_inline_style_is_noticed(browser: Browser, client: Client) -> None:
    with (
        pytest.raises(AssertionError, match="inline style"),
        visiting(browser, str(client.base_url)) as visit,
        visit.page.expect_console_message(lambda said: "inline style" in said.text),
    ):
        visit.page.evaluate(_STYLE)


def test_a_picture_of_another_host_is_not_asked_for_and_is_noticed(
    browser: Browser, client: Client, host: Host
) -> None:
    with (
        pytest.raises(AssertionError, match="asks other hosts"),
        visiting(browser, str(client.base_url)) as visit,
        visit.page.expect_console_message(lambda said: "img-src" in said.text),
    ):
        visit.page.evaluate(_PICTURE, f"{host.url}/photo.png")
    assert any("img-src" in each for each in visit.complaints)
    assert host.requests == []


def test_another_host_that_is_asked_is_noticed(browser: Browser, client: Client, host: Host) -> None:
    """In a browser that does not keep the page's policy: the check itself sees it."""
    context = browser.new_context(bypass_csp=True)
    with (
        pytest.raises(AssertionError, match="asks other hosts"),
        visiting(browser, str(client.base_url), context=context) as visit,
        visit.page.expect_response(f"{host.url}/photo.png"),
    ):
        visit.page.evaluate(_PICTURE, f"{host.url}/photo.png")
    assert [path for path, _ in host.requests] == ["/photo.png"]
    context.close()
