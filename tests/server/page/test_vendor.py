"""What others made for the page is what they published, and is named with its licence."""

from __future__ import annotations

import json
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.packages import packages

REPOSITORY = Path(__file__).parents[3]
FOLDER = REPOSITORY / "server" / "web" / "vendor"
LISTED: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / "vendor.toml").read_text(encoding="utf-8"))
LOCKS = Path(__file__).parent / "vendor"
NOTICES = (REPOSITORY / "THIRD-PARTY-NOTICES.md").read_text(encoding="utf-8")

each = pytest.mark.parametrize("name", LISTED)


def test_every_file_is_listed() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*LISTED, "vendor.toml"}


@each
def test_a_file_is_the_one_that_was_taken(name: str) -> None:
    assert sha256((FOLDER / name).read_bytes()).hexdigest() == LISTED[name]["sha256"]


@each
def test_the_notices_name_it(name: str) -> None:
    (row,) = [line for line in NOTICES.splitlines() if line.startswith("|") and f"`{name}`" in line]
    for told in ("package", "version", "licence"):
        assert LISTED[name][told] in row, told


def test_the_sample_photo_is_in_the_notices() -> None:
    assert "`server/web/sample.jpg`" in NOTICES


@pytest.mark.slow
@each
def test_the_package_holds_that_file(name: str) -> None:
    listed = LISTED[name]
    folder = packages(LOCKS) / "node_modules" / listed["package"]
    about = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    assert (about["version"], about["license"]) == (listed["version"], listed["licence"])
    assert (folder / listed["path"]).read_bytes() == (FOLDER / name).read_bytes()
