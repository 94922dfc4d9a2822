"""The documentation agrees with the code: tables, links, names of files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from docs.tables import DOCUMENTS, REPOSITORY, updated


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_tables_are_up_to_date(path: Path) -> None:
    assert path.read_text() == updated(path.read_text()), "run `make docs`"


def test_every_parameter_and_setting_is_described() -> None:
    documents = [updated(path.read_text()) for path in DOCUMENTS]
    rows = [line for document in documents for line in document.splitlines() if line.startswith("| `")]
    assert rows
    assert not [row for row in rows if row.endswith("|  |")], "a row without its meaning"


GUIDES = [
    REPOSITORY / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/glossary.md",
        "docs/page.md",
        "docs/security.md",
    )
]
"""Documents that name files of the project."""


@pytest.mark.parametrize("path", [*GUIDES, *DOCUMENTS], ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_to_files(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", path.read_text())
    assert not [link for link in links if "://" not in link and not (path.parent / link).exists()]


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_named_files_exist(path: Path) -> None:
    """A file may be named by the end of its path."""
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    paths = [f"/{line}" for line in tracked.splitlines()]
    named = re.findall(r"`([\w./-]+\.(?:py|lua))`", path.read_text())
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in paths)]
