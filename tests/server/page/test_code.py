"""The page's code sends what the page sends, whatever stands in the form; it tells failures, and holds no key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.server.conftest import MakeSettings
from tests.server.page.browser import visiting
from tests.server.page.programs import (
    KEY,
    LANGUAGES,
    SHELLS,
    VERSIONS,
    choose,
    every_language,
    form_code,
    link,
    running,
    shown_code,
)
from tests.server.support import KEYS, Client, FakeWorker, body_for, image_field, picture, serving

PHOTO = picture(64, 40)
every_version = pytest.mark.parametrize("version", VERSIONS)
AWKWARD = 'it\'s "quoted" \\ back\\nslash $HOME $(id) `id` !! 100% %41 #1 é 日本 🎨\nand a second line'
TEXTS = {
    "ic-light": {"prompt": AWKWARD, "appended_prompt": "@photo.png", "negative_prompt": "<photo.png;type=text/html"},
    "pulid-lightning": {"prompt": f" @{AWKWARD} ", "negative_prompt": '"},\n{"url":"http://127.0.0.1/files/x.png"'},
}
FILE_NAMES = {
    "ic-light": 'it\'s a "photo", 100%; type=é\\日本.png',
    "pulid-lightning": "-o photo .png",
}


def url_of(client: Client) -> str:
    return str(client.base_url).rstrip("/")


def photo_for(folder: Path, name: str = "photo.png") -> Path:
    path = folder / name
    path.write_bytes(PHOTO)
    return path


def received(worker: FakeWorker, slug: str) -> tuple[str, dict[str, Any], bytes]:
    """The next request that the gateway accepts: its id, its parameters without the picture, and the picture."""
    request_id = worker.await_request(slug, timeout_s=60)
    params = dict(worker.record(request_id).params)
    stored = worker.store.read(params.pop(image_field(slug)))
    assert stored is not None
    return request_id, params, stored


def fill(page: Page, texts: dict[str, str], photo: Path) -> None:
    """Fill a form as a user does."""
    page.locator("fieldset.picture input[type=file]").first.set_input_files(photo)
    page.get_by_text("More settings").click()
    for field, text in {**texts, "seed": "7"}.items():
        page.locator(f"#field-{field}").fill(text)


COMMANDS = [*((name, command) for name, (command, _) in LANGUAGES.items()), *(("curl", shell) for shell in SHELLS[1:])]


@pytest.mark.parametrize(("language", "command"), COMMANDS, ids=lambda value: Path(value).name)
@pytest.mark.parametrize("slug", [pytest.param("ic-light"), pytest.param("pulid-lightning", marks=pytest.mark.slow)])
def test_the_code_sends_what_the_page_sends(
    browser: Browser, client: Client, worker: FakeWorker, tmp_path: Path, slug: str, language: str, command: str
) -> None:
    with visiting(browser, link(url_of(client), slug)) as visit:
        fill(visit.page, TEXTS[slug], photo_for(tmp_path, FILE_NAMES[slug]))
        section = form_code(visit.page)
        code = {version: shown_code(section, language, version) for version in VERSIONS}
        visit.page.locator("form.make button[type=submit]").click()
        request_id, params, stored = received(worker, slug)
        worker.complete(request_id)
        expect(visit.page.get_by_role("article").get_by_text("kept for")).to_be_visible()
    assert {name: params[name] for name in TEXTS[slug]} == TEXTS[slug]
    assert stored == PHOTO
    for version in VERSIONS:
        with running(code[version], language, tmp_path, command) as program:
            request_id, *sent = received(worker, slug)
            assert sent == [params, PHOTO], version
            (output,) = worker.complete(request_id)
            assert worker.store.read(output.name) in program.must_save(), version


def all_code(page: Page) -> dict[tuple[str, str], str]:
    """The code for the form's settings, by language and version."""
    section = form_code(page)
    return {(name, version): shown_code(section, name, version) for name in LANGUAGES for version in VERSIONS}


@pytest.fixture(scope="module")
def refused_code(browser: Browser, shared_client: Client) -> dict[tuple[str, str], str]:
    """Code whose request the server refuses."""
    with visiting(browser, link(url_of(shared_client), "ic-light", prompt="a portrait", cfg=99)) as visit:
        return all_code(visit.page)


@pytest.fixture(scope="module")
def portraits_code(browser: Browser, shared_client: Client) -> dict[tuple[str, str], str]:
    """Code for two portraits."""
    with visiting(browser, link(url_of(shared_client), "pulid-lightning", number_of_images=2)) as visit:
        return all_code(visit.page)


@every_version
@every_language
def test_what_the_server_refuses_is_said(
    refused_code: dict[tuple[str, str], str], client: Client, tmp_path: Path, language: str, version: str
) -> None:
    photo_for(tmp_path, "photo.jpg")
    refused = client.post("/v2/ic-light", json=body_for("ic-light", cfg=99)).json()["error"]
    with running(refused_code[language, version], language, tmp_path) as program:
        status, said = program.end()
    assert status != 0
    assert refused in said


@every_version
@every_language
def test_the_reason_of_a_failure_is_said(
    portraits_code: dict[tuple[str, str], str], worker: FakeWorker, tmp_path: Path, language: str, version: str
) -> None:
    photo_for(tmp_path, "photo.jpg")
    with running(portraits_code[language, version], language, tmp_path) as program:
        worker.fail(worker.await_request("pulid-lightning", timeout_s=60), "No face was found in face_image.")
        status, said = program.end()
    assert status != 0
    assert "No face was found in face_image." in said


@every_language
def test_the_key_comes_from_the_environment(
    browser: Browser, make_settings: MakeSettings, tmp_path: Path, language: str
) -> None:
    settings = make_settings(api_keys=KEYS[0], data_dir=tmp_path / "server")
    folder = tmp_path / "user"
    folder.mkdir()
    photo_for(folder, "photo.jpg")
    worker = FakeWorker(settings)
    with serving(settings) as client:
        with visiting(browser, link(url_of(client), "ic-light", prompt="a portrait")) as visit:
            visit.page.get_by_label("API key").fill(KEYS[0])
            visit.page.get_by_role("button", name="Use this key").click()
            expect(form_code(visit.page).locator("small")).to_contain_text(KEY)
            code = all_code(visit.page)
        assert not any(KEYS[0] in each for each in code.values())
        refused = client.get("/v2/requests/x/status", headers={"x-api-key": "wrong"}).json()["error"]
        for version in VERSIONS:
            with running(code[language, version], language, folder, **{KEY: KEYS[0]}) as program:
                (output,) = worker.complete(worker.await_request("ic-light", timeout_s=60))
                assert worker.store.read(output.name) in program.must_save()
            with running(code[language, version], language, folder, **{KEY: "wrong"}) as program:
                status, said = program.end()
            assert status != 0
            assert refused in said


def test_nobody_is_asked_for_a_key_that_the_server_does_not_want(browser: Browser, client: Client) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        assert not any(KEY in each for each in all_code(visit.page).values())


@pytest.mark.parametrize("clipboard", ["granted", "none"])
def test_the_code_and_a_link_are_copied(browser: Browser, client: Client, clipboard: str) -> None:
    """Also where the browser has no clipboard for scripts: without TLS, on another host than this one."""
    with browser.new_context() as context:
        if clipboard == "none":
            context.add_init_script("delete Navigator.prototype.clipboard")
        address = link(url_of(client), "ic-light", prompt=AWKWARD, light_source="Left Light")
        with visiting(browser, address, context=context) as visit:
            section = form_code(visit.page)
            code = shown_code(section, "curl", "v1")
            prompt = visit.page.locator("#field-prompt")
            for button, expected in (("Copy code", code), ("Copy a link to these settings", address)):
                copy = section.locator("span", has=visit.page.get_by_role("button", name=button))
                copy.get_by_role("button").click()
                expect(copy.get_by_role("status")).to_have_text("Copied")
                prompt.fill("")
                prompt.press("Control+V")
                expect(prompt).to_have_value(expected)
                prompt.fill(AWKWARD)


def test_the_choice_of_language_and_version_is_remembered(browser: Browser, client: Client) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        choose(form_code(visit.page), "JavaScript", "v1")
        visit.page.reload()
        section = form_code(visit.page)
        expect(section.get_by_role("radio", name="JavaScript")).to_be_checked()
        expect(section.get_by_role("radio", name=VERSIONS["v1"])).to_be_checked()
        expect(section.locator("pre")).to_contain_text("/v1/")
