"""The tables of the documentation are those of the code."""

from __future__ import annotations

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
