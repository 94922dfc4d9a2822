"""A folder of weights, limited to its recorded files: others are never read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.errors import WeightFileError
from models.weights.file_errors import file_errors


@dataclass(frozen=True)
class Folder:
    """The recorded files of a folder; `names` are their paths in it, with slashes."""

    path: Path
    names: frozenset[str]

    @classmethod
    def of(cls, path: Path, recorded: Iterable[Path]) -> Folder:
        """The folder at `path` with the `recorded` files below it."""
        return cls(path, frozenset(file.relative_to(path).as_posix() for file in recorded if file.is_relative_to(path)))

    @classmethod
    def as_found(cls, path: Path) -> Folder:
        """A folder without a record: every file belongs to it."""
        return cls.of(path, (file for file in path.rglob("*") if file.is_file()))

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def file(self, name: str) -> Path:
        """Path of the recorded file `name`; raises `WeightFileError` if there is no such one."""
        if name not in self.names:
            raise WeightFileError(f"{self.path / name}: not recorded in installed.toml.")
        return self.path / name

    def ending_in(self, suffix: str) -> list[Path]:
        """Paths of all recorded files of that suffix, in the order of their names."""
        return [self.path / name for name in sorted(self.names) if name.endswith(suffix)]

    def inner(self, name: str) -> Folder:
        """The folder `name` in it."""
        return Folder.of(self.path / name, (self.path / found for found in self.names))

    @contextmanager
    def linked(self) -> Iterator[Path]:
        """A temporary folder of links to the recorded files only, for libraries that read whole folders.

        Exceptions inside become a `WeightFileError` that names this folder's files.
        """
        with tempfile.TemporaryDirectory(prefix="facelight-") as name:
            links = Path(name)
            for file in self.names:
                (links / file).parent.mkdir(parents=True, exist_ok=True)
                (links / file).symlink_to((self.path / file).resolve())
            files = sorted(self.path / file for file in self.names) or [self.path]
            with file_errors(*files, instead_of={links: self.path}):
                yield links

    def unrecorded(self) -> list[str]:
        """Names of files in the folder that are not recorded."""
        return sorted(Folder.as_found(self.path).names - self.names)


@contextmanager
def linked(path: Path) -> Iterator[Path]:
    """A temporary link to the file at `path`, alone in its folder: ONNX files may refer to other files there.

    Otherwise like `Folder.linked`.
    """
    with Folder(path.parent, frozenset({path.name})).linked() as links:
        yield links / path.name
