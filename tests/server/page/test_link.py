"""A link to settings restores the form, and holds nothing that is anybody's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.server.conftest import MakeSettings
from tests.server.page.browser import visiting
from tests.server.page.programs import form_code, link
from tests.server.support import KEYS, Client, picture, serving

RELIT = {
    "prompt": "cat & dog, 100% «été» #1\nsecond line",
    "appended_prompt": "",
    "negative_prompt": "a+b=c",
    "light_source": "Bottom Light",
    "width": 320,
    "height": 256,
    "steps": 7,
    "cfg": 3.5,
    "lowres_denoise": 0.65,
    "highres_scale": 1,
    "highres_denoise": 0.25,
    "number_of_images": 2,
    "seed": 9007199254740991,
    "output_format": "png",
    "output_quality": 12,
}
PORTRAIT = {
    "prompt": "portrait (smile:1.3)",
    "negative_prompt": "hat",
    "checkpoint_model": "artistic",
    "face_style": "stylized",
    "width": 300,
    "height": 1200,
    "number_of_images": 3,
    "seed": 0,
    "output_format": "webp",
    "output_quality": 100,
}
CLIPBOARD = ["clipboard-read", "clipboard-write"]
ALL = {"ic-light": RELIT, "pulid-lightning": PORTRAIT}
"""Every field of both models that is no picture, with other values than the server's own."""


def values(page: Page) -> dict[str, Any]:
    """What the form shows, by field."""
    script = """form => Object.fromEntries([...form.querySelectorAll("[data-field]")].map(field => {
        const name = field.dataset.field;
        const single = field.querySelector(`#field-${name}`);
        const radios = [...field.querySelectorAll("input[type=radio]")];
        const chosen = radios.find(radio => radio.checked)?.closest("label").textContent.trim();
        return [name, single ? single.value : chosen];
    }).filter(([, value]) => value !== undefined))"""
    shown: dict[str, Any] = page.locator("form.make").evaluate(script)
    return shown


def as_shown(settings: dict[str, Any]) -> dict[str, str]:
    words = {name: str(value).removesuffix(" Light") for name, value in settings.items()}
    return words | ({"light_source": "Any side"} if words.get("light_source") == "None" else {})


def copied_link(page: Page) -> str:
    """The link that the form offers."""
    section = form_code(page)
    section.get_by_role("button", name="Copy a link to these settings").click()
    expect(section.get_by_text("Copied").last).to_be_visible()
    address: str = page.evaluate("navigator.clipboard.readText()")
    return address


def expect_form(page: Page, slug: str, settings: dict[str, Any]) -> None:
    expect(page.get_by_role("radio", name=slug)).to_be_checked()
    expect(page.locator("#field-prompt")).to_have_value(settings["prompt"])
    shown = values(page)
    assert {name: shown[name] for name in settings} == as_shown(settings)


@pytest.mark.parametrize("slug", ALL)
def test_the_link_restores_every_field(browser: Browser, client: Client, slug: str) -> None:
    """From one browser to another: the first one gives the link that the second one opens."""
    url = str(client.base_url).rstrip("/")
    with visiting(browser, link(url, slug, **ALL[slug]), permissions=CLIPBOARD) as visit:
        expect_form(visit.page, slug, ALL[slug])
        assert values(visit.page).keys() == ALL[slug].keys()
        address = copied_link(visit.page)
    assert dict(parse_qsl(urlsplit(address).fragment, keep_blank_values=True)) == {
        "model": slug,
        **{name: str(value) for name, value in ALL[slug].items()},
    }
    with visiting(browser, address) as visit:
        expect_form(visit.page, slug, ALL[slug])


def test_a_link_entered_into_an_open_page_replaces_its_settings(browser: Browser, client: Client) -> None:
    url = str(client.base_url).rstrip("/")
    with visiting(browser, link(url, "ic-light", **RELIT)) as visit:
        page = visit.page
        expect_form(page, "ic-light", RELIT)
        page.goto(link(url, "ic-light", prompt="another", cfg=4))
        expect_form(page, "ic-light", {"prompt": "another", "cfg": 4, "width": 512, "light_source": "Any side"})
        page.goto(link(url, "pulid-lightning", **PORTRAIT))
        expect_form(page, "pulid-lightning", PORTRAIT)
        page.locator("#field-prompt").fill("changed since")
        page.goto(link(url, "pulid-lightning", **PORTRAIT))
        expect_form(page, "pulid-lightning", PORTRAIT)
        page.get_by_role("radio", name="ic-light").check()
        expect_form(page, "ic-light", {"prompt": "another", "cfg": 4})


def test_what_is_changed_after_a_link_survives_a_reload(browser: Browser, client: Client) -> None:
    with visiting(browser, link(str(client.base_url).rstrip("/"), "ic-light", prompt="linked")) as visit:
        visit.page.locator("#field-prompt").fill("changed")
        visit.page.reload()
        expect(visit.page.locator("#field-prompt")).to_have_value("changed")


def test_a_link_holds_neither_key_nor_picture(browser: Browser, make_settings: MakeSettings, tmp_path: Path) -> None:
    photo = tmp_path / "my-own-photo.png"
    photo.write_bytes(picture(64, 40))
    with serving(make_settings(api_keys=KEYS[0], data_dir=tmp_path / "server")) as client:
        url = link(str(client.base_url).rstrip("/"), "ic-light", prompt="cat")
        with visiting(browser, url, permissions=CLIPBOARD) as visit:
            page = visit.page
            page.get_by_label("API key").fill(KEYS[0])
            page.get_by_role("button", name="Use this key").click()
            page.locator("[data-field=subject_image] input[type=file]").first.set_input_files(photo)
            page.get_by_text("More settings").click()
            address = page.get_by_label("Background image: URL")
            address.fill("https://pictures.example.com/wall.png")
            address.press("Enter")
            expect(page.get_by_text("https://pictures.example.com/wall.png").first).to_be_visible()
            copied = copied_link(page)
    assert dict(parse_qsl(urlsplit(copied).fragment)) == {"model": "ic-light", "prompt": "cat"}


WRONG = {
    "cfg": "much",
    "steps": "2.5",
    "highres_scale": "",
    "highres_denoise": "Infinity",
    "number_of_images": " ",
    "light_source": "left light",
    "output_format": "gif",
    "width": "300",
    "subject_image": "https://pictures.example.com/cat.png",
    "background_image": "data:image/png;base64,AAAA",
    "no_such_field": "1",
    "constructor": "1",
    "__proto__": "1",
}


def test_what_a_link_says_wrongly_is_ignored(browser: Browser, client: Client) -> None:
    url = str(client.base_url).rstrip("/")
    with visiting(browser, link(url, "ic-light", prompt="x")) as visit:
        untouched = values(visit.page)
    with visiting(browser, link(url, "ic-light", prompt="x", **WRONG)) as visit:
        expect(visit.page.locator("#field-prompt")).to_have_value("x")
        assert values(visit.page) == untouched
        expect(visit.page.get_by_role("button", name="Use the sample photo")).to_be_visible()
        expect(visit.page.get_by_text("pictures.example.com")).to_have_count(0)


@pytest.mark.parametrize("fragment", ["", "nothing", "model=&prompt=x", "model=sdxl&prompt=x", "prompt=x", "%", "=&=&"])
def test_a_link_to_no_model_changes_nothing(browser: Browser, client: Client, fragment: str) -> None:
    with visiting(browser, link(str(client.base_url).rstrip("/"), "pulid-lightning", prompt="before")) as visit:
        expect(visit.page.locator("#field-prompt")).to_have_value("before")
        visit.page.evaluate("fragment => { location.hash = fragment }", fragment)
        visit.page.reload()
        expect_form(visit.page, "pulid-lightning", {"prompt": "before"})
