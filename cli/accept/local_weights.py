"""The weights folder of this machine: its record, for the report, and its face recogniser, for the identity check.

Both may be missing: on another host than the worker's, or without the packages of the extra `worker`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli.accept.checks.identity import Embedding
from models.errors import NoFaceFound, WeightsError
from models.imaging.types import Rgb

if TYPE_CHECKING:
    from models.pulid_lightning.identity.face import FaceFinder
    from models.weights.installed import Installed

Recogniser = Callable[[Rgb], Embedding | None]
"""The embedding of the largest face of an image; None without a face."""
ROLE: Final = "face_analysis"
_ELSEWHERE: Final = "Cannot be checked here: run it on the worker's host."


@dataclass(frozen=True)
class LocalWeights:
    """(role, name, licence) of every weight; a recogniser, or a message why there is none."""

    listed: tuple[tuple[str, str, str], ...]
    recogniser: Recogniser | str


def read_local_weights(root: Path, kinds: Collection[str | None]) -> LocalWeights:
    """Read the weights folder `root`; never raises.

    It is taken for the server's if its weights are of one of the server's `kinds`. The recogniser of demo weights is
    random and not used.
    """
    try:
        return _read(root, kinds)
    except ImportError as error:
        return LocalWeights((), f"{_ELSEWHERE} {error.name} is not installed.")
    except (WeightsError, OSError) as error:
        return LocalWeights((), f"{_ELSEWHERE} {error}")


def _read(root: Path, kinds: Collection[str | None]) -> LocalWeights:
    from models.weights.installed import read_installed

    record = read_installed(root)
    if record.kind not in kinds:
        raise WeightsError(f"{root} holds {record.kind} weights, the server has others.")
    listed = tuple((weight.role, weight.name, weight.licence) for weight in record.weights)
    if record.kind == "demo":
        return LocalWeights(listed, "Cannot be checked on demo weights: their recogniser is random.")
    try:
        return LocalWeights(listed, _load(root, record))
    except WeightsError as error:
        return LocalWeights(listed, f"{_ELSEWHERE} {error}")


def _load(root: Path, record: Installed) -> Recogniser:
    from models.pulid_lightning.identity.face import FaceFinder
    from models.weights.folder import Folder
    from models.weights.hashes import HashCache
    from models.weights.installed import verify_file

    found = [weight for weight in record.weights if weight.role == ROLE]
    if not found:
        raise WeightsError(f"{root} holds no {ROLE}.")
    for file in found[0].files:
        if fault := verify_file(root, file, HashCache()):
            raise WeightsError(f"{fault}.")
    return recogniser_of(FaceFinder(Folder.of(root / found[0].path, [root / file.path for file in found[0].files])))


def recogniser_of(finder: FaceFinder) -> Recogniser:
    """The pipeline's own face finder as a recogniser."""

    def describe(picture: Rgb) -> Embedding | None:
        try:
            return finder.find(picture).embedding
        except NoFaceFound:
            return None

    return describe
