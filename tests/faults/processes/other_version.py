"""Another version of facelight: a copy of this one's source, changed, that processes run in its place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_REPOSITORY: Final = Path(__file__).parents[3]
_PACKAGES: Final = ("server", "workers", "models", "tests/faults")
MORE_FIELDS: Final = {
    "'version', RECORD_VERSION": "'version', RECORD_VERSION, 'shade', 'blue'",
    '    fallback: str = ""\n': '    fallback: str = ""\n    shade: str = "blue"\n',
    "    width: int\n    height: int\n": "    width: int\n    height: int\n    shade: str = 'blue'\n",
}
"""Records, workers' entries and pictures have a field more."""


def other_version(folder: Path, changes: Mapping[str, str]) -> dict[str, str]:
    """Write the copy; `changes` are of texts of `workers/state`, each of which is in one file.

    Returns the variables with which `python -m` runs it, as the folder in which it is started does not come first then.
    """
    for package in _PACKAGES:
        shutil.copytree(_REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    files = [path for path in (folder / "workers" / "state").rglob("*.*") if path.suffix in (".py", ".lua")]
    for before, after in changes.items():
        (path,) = [path for path in files if before in path.read_text()]
        path.write_text(path.read_text().replace(before, after))
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
