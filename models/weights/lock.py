"""The lock that is shipped: every weight there is, its alternatives, source, licence and pins, as TOML.

    [[weights]]
    name = "pulid-v1-fp16"                 # unique: what an operator chooses by
    role = "pulid_adapter"                 # what a loader asks for
    used_by = ["pulid-lightning"]
    default = true                         # fetched unless another weight of the role is chosen
    licence = "Apache-2.0"                 # SPDX identifier or the card's words
    commercial = true                      # true, false or "restricted"
    source = { repo = "owner/name", revision = "40 hex digits" }
    path = "pulid/adapter.safetensors"     # file or folder of the role, below the weights folder
    files = [{ path = "pulid/adapter.safetensors", origin = "file.safetensors", size = 1234, sha256 = "…" }]

    [demo]                                 # the trained files of the demo weights, part of facelight itself
    files = [{ path = "unet.safetensors", size = 1234, sha256 = "…" }]

`origin` is a path in the repository, the last part of a URL, or a member of an archive; `size` and `sha256` describe
it as published. `sha256 = "unpinned"` stands where no public hash is known: the first download is checked against the
hub's own hash, and `pin` writes what was learned.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from models.errors import WeightsError
from models.weights.atomic import atomic_write

_PACKAGED_LOCK: Final = Path(__file__).with_name("weights.lock")
SHIPPED_LOCK: Final = _PACKAGED_LOCK if _PACKAGED_LOCK.exists() else Path(__file__).parents[2] / "weights.lock"
"""Beside this module in a wheel, to which setup.py adds it; at the root of the tree otherwise."""
UNPINNED: Final = "unpinned"
PICKLES: Final = (".bin", ".ckpt", ".pt", ".pth")
"""Suffixes of torch pickles, in any case: such an origin is converted to safetensors when it is installed."""


def _inner(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError(f"{path!r} is not a path below a folder")
    return path


InnerPath = Annotated[str, AfterValidator(_inner)]
"""A relative path, with slashes, that does not leave its folder."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HubSource(_Entry):
    """A repository of the hub at one revision (a commit, a tag or a branch)."""

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = Field(pattern=r"^[\w.-]+$")


class UrlSource(_Entry):
    """Plain files below a URL that ends in a slash, or one archive with its own size in bytes and hash."""

    url: str = Field(pattern=r"^https?://")
    unpack: Literal["zip"] | None = None
    size: int | None = None
    sha256: Sha256 | None = None


class WeightFile(_Entry):
    """One file: where it goes below the weights folder, and what is published; `size` in bytes."""

    path: InnerPath
    origin: InnerPath
    size: int | None = Field(None, ge=0)
    sha256: Sha256 | Literal["unpinned"]

    @property
    def pinned(self) -> bool:
        """Whether a hash is known."""
        return self.sha256 != UNPINNED

    @property
    def converted(self) -> bool:
        """Whether it is published as a pickle and installed as safetensors."""
        published = urlsplit(self.origin).path.lower()  # the last part of a URL may have a query
        return published.endswith(PICKLES) and self.path.lower().endswith(".safetensors")


class Weight(_Entry):
    """One weight that a role may be filled with."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    role: str
    used_by: list[str] = Field(min_length=1)
    default: bool = False
    optional: bool = False
    licence: str
    commercial: bool | Literal["restricted"]
    note: str = ""
    source: HubSource | UrlSource
    path: InnerPath
    files: list[WeightFile] = Field(min_length=1)

    @property
    def size(self) -> int:
        """Bytes of all files as they are published; files of unknown size count nothing."""
        return sum(file.size or 0 for file in self.files)


class DemoFile(_Entry):
    """One trained file of the demo weights: its name in their folder, its size in bytes and its hash."""

    path: InnerPath
    size: int = Field(ge=0)
    sha256: Sha256


class Demo(_Entry):
    """What the demo weights are made of."""

    files: list[DemoFile] = []


class Lock(_Entry):
    """A whole lock; names are unique. An operator's own need not know the demo weights."""

    weights: list[Weight]
    demo: Demo = Demo()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Lock:
        names = [weight.name for weight in self.weights]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two weights are called {twice[0]}")
        return self

    def named(self, name: str) -> Weight:
        """The weight called `name`; raises `WeightsError` that lists the names there are."""
        for weight in self.weights:
            if weight.name == name:
                return weight
        raise WeightsError(f"There is no weight {name!r}; there are {', '.join(w.name for w in self.weights)}.")


def read_lock(path: Path) -> Lock:
    """Read the lock at `path`; raises `WeightsError` if it is missing or malformed."""
    try:
        return Lock.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise WeightsError(f"The lock of weights cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or no lock
        raise WeightsError(f"{path} is malformed: {error}") from error


def pin(path: Path, learned: Mapping[str, Mapping[str, tuple[int, str]]]) -> Collection[str]:
    """Write learned sizes (bytes) and hashes into the lock at `path`, whose order and comments stay as they are.

    `learned`: by name of the weight, by path of the file. Only unpinned files are changed; returns their paths.
    Raises `WeightsError` if the file cannot be written.
    """
    lock, text = read_lock(path), path.read_text(encoding="utf-8")
    wanted = {
        (weight.name, file.path): learned[weight.name][file.path]
        for weight in lock.weights
        for file in weight.files
        if not file.pinned and file.path in learned.get(weight.name, {})
    }
    for (name, file), (size, sha256) in wanted.items():
        text = _pin_one(text, name, file, size, sha256)
    if wanted:
        _replace(path, text)
    return [file for _, file in wanted]


def pin_demo(path: Path, files: Iterable[DemoFile]) -> None:
    """Write `files`, and no others, into the section of the demo weights in the lock at `path`.

    Raises `WeightsError` if there is no such section or the file cannot be written.
    """
    lines = [f'  {{ path = "{file.path}", size = {file.size}, sha256 = "{file.sha256}" }},\n' for file in files]
    text, count = re.subn(
        r"(^\[demo\]\nfiles = \[\n)(?: .*\n)*(?=\]$)",
        lambda match: match[1] + "".join(lines),
        path.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    if count != 1:
        raise WeightsError(f"{path} has no section [demo] that could be changed; edit it by hand.")
    _replace(path, text)


def _replace(path: Path, text: str) -> None:
    try:
        atomic_write(path, text)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written ({error.strerror}): run this as its owner.") from error


def _pin_one(text: str, name: str, file: str, size: int, sha256: str) -> str:
    """`text` with the one table of `file`, in the entry called `name`, holding its size and hash."""
    begin, end = _entry_span(text, name)
    entry, count = re.subn(
        r"\{[^{}]*\bpath\s*=\s*" + re.escape(f'"{file}"') + r"[^{}]*\}",
        lambda match: _pinned_table(match[0], size, sha256),
        text[begin:end],
        count=1,
    )
    if not count:
        raise WeightsError(f"The lock's entry {name!r} has no table for {file} that could be changed; edit it by hand.")
    return text[:begin] + entry + text[end:]


def _entry_span(text: str, name: str) -> tuple[int, int]:
    headers = [match.start() for match in re.finditer(r"^\[\[?\w", text, re.MULTILINE)]
    for begin, end in zip(headers, [*headers[1:], len(text)], strict=True):
        if re.search(r"^name\s*=\s*" + re.escape(f'"{name}"'), text[begin:end], re.MULTILINE):
            return begin, end
    raise WeightsError(f"The lock's entry {name!r} cannot be changed; edit it by hand.")


def _pinned_table(table: str, size: int, sha256: str) -> str:
    table = re.sub(r"\bsize\s*=\s*[\d_]+\s*,\s*", "", table)
    return re.sub(r'\bsha256\s*=\s*"unpinned"', f'size = {size}, sha256 = "{sha256}"', table)
