"""The page's code: read from the page, and run as its user would, in a folder with the user's files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Locator, Page

LANGUAGES = {
    "curl": ("bash", "request.sh"),
    "Python, segmind": (sys.executable, "request.py"),
    "Python, requests": (sys.executable, "request.py"),
    "JavaScript": ("node", "request.mjs"),
}
"""What runs each, and the name of its file."""
SHELLS = ("bash", "sh", "zsh")
"""Those that the code for curl is written for."""
VERSIONS = {"v1": "v1: wait", "v2": "v2: queue and poll"}
KEY = "FACELIGHT_API_KEY"

every_language = pytest.mark.parametrize("language", LANGUAGES)


def link(url: str, slug: str, **values: object) -> str:
    """Address of the page with settings."""
    return f"{url}/#{urlencode({'model': slug, **values})}"


def form_code(page: Page) -> Locator:
    """The code for the settings of the form, opened."""
    if not page.locator("details.api[open]").count():
        page.get_by_text("Code for these settings").click()
    return page.locator("details.api").get_by_label("Code for this request")


def card_code(card: Locator) -> Locator:
    """The code for a request that was sent, opened."""
    card.get_by_role("button", name="Code", exact=True).click()
    return card.get_by_label("Code for this request")


def choose(section: Locator, language: str, version: str) -> None:
    for label, choice in (("Language", language), ("Version of the API", VERSIONS[version])):
        section.get_by_role("group", name=label).get_by_role("radio", name=choice, exact=True).check()


def shown_code(section: Locator, language: str, version: str) -> str:
    """The code of a language, as the page shows it."""
    choose(section, language, version)
    code = section.locator("pre").text_content()
    assert code
    return code


@dataclass
class Program:
    """A program that runs."""

    process: subprocess.Popen[str]
    folder: Path
    before: set[str]

    def end(self) -> tuple[int, str]:
        """Wait for its end; returns its exit status, and all that it said."""
        said, _ = self.process.communicate(timeout=120)
        return self.process.returncode, said

    def saved(self) -> set[bytes]:
        """What has come into its folder since it was started."""
        return {path.read_bytes() for path in self.folder.iterdir() if path.name not in self.before}

    def must_save(self) -> set[bytes]:
        """Wait for its end, which must be a success; returns the files that it has saved."""
        status, said = self.end()
        assert status == 0, said
        return self.saved()


@contextmanager
def running(code: str, language: str, folder: Path, command: str | None = None, **variables: str) -> Iterator[Program]:
    """Run code in a folder for as long as the block lasts; `variables` are all that its environment holds of ours.

    `command` replaces what runs it else. Skips the test where that is not installed.
    """
    usual, name = LANGUAGES[language]
    command = command or usual
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not installed")
    path = folder / name
    path.write_text(code, encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **variables}
    before = {path.name for path in folder.iterdir()} | set(_DOWNLOADS.findall(code))
    process = subprocess.Popen(
        [command, name], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield Program(process, folder, before)
    finally:
        process.kill()
        process.communicate()


_DOWNLOADS = re.compile(r"^curl -fsS -o '([^']+)' ", re.MULTILINE)
"""Names of the input files that curl fetches before it sends them: no results."""


def run(code: str, language: str, folder: Path, **variables: str) -> set[bytes]:
    """Run code that must succeed; returns the files that it has saved."""
    with running(code, language, folder, **variables) as program:
        return program.must_save()
