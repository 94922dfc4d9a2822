"""The lock that is shipped: its facts hang together, and it names what the loaders open, no more and no less."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bench.full_size.tokenizer import END, published_tokenizer
from cli.weights.selection import slot_of, slots
from models.catalog import MODELS
from models.ic_light.networks import MATTINGS
from models.pulid_lightning import single_file
from models.pulid_lightning.prompt import tokenize
from models.pulid_lightning.sdxl import load_tokenizers
from models.weights.folder import Folder
from models.weights.installed import WeightSet, read_installed
from models.weights.lock import PICKLES, HubSource, Weight, WeightFile, read_lock
from tests.conftest import REPOSITORY
from tests.models.ic_light.test_matting_onnx import write_red
from tests.models.opened import opened

LOCK = read_lock(REPOSITORY / "weights.lock")
BY_NAME = {weight.name: weight for weight in LOCK.weights}
CPU = torch.device("cpu")


def ids(weight: Weight) -> str:
    return weight.name


def choices(slug: str) -> list[list[Weight]]:
    """Ways to fill every slot of a model, such that each weight is used in one of them."""
    candidates = slots(LOCK, slug).values()
    rounds = max(len(weights) for weights in candidates)
    return [[weights[min(number, len(weights) - 1)] for weights in candidates] for number in range(rounds)]


ALL_CHOICES = [
    pytest.param(slug, chosen, id=f"{slug}-{n}", marks=pytest.mark.slow if n else ())
    for slug in MODELS
    for n, chosen in enumerate(choices(slug))
]


def test_names_are_unique_and_paths_belong_to_one_weight():
    assert len(BY_NAME) == len(LOCK.weights)
    files = Counter(file.path for weight in LOCK.weights for file in weight.files)
    assert not [path for path, count in files.items() if count > 1]
    paths = Counter(weight.path for weight in LOCK.weights)
    assert not [path for path, count in paths.items() if count > 1]


@pytest.mark.parametrize("weight", LOCK.weights, ids=ids)
def test_the_files_of_a_weight_lie_at_its_path(weight: Weight):
    inside = [Path(file.path).is_relative_to(weight.path) for file in weight.files]
    assert all(inside)
    assert len(weight.files) > 1 or weight.files[0].path == weight.path


@pytest.mark.parametrize("weight", LOCK.weights, ids=ids)
def test_it_is_used_by_models_that_there_are(weight: Weight):
    assert weight.used_by
    assert set(weight.used_by) <= MODELS.keys()


def test_every_place_has_one_default_unless_the_model_works_without_it():
    for slug in MODELS:
        for slot, candidates in slots(LOCK, slug).items():
            optional = {weight.optional for weight in candidates}
            assert len(optional) == 1, slot
            assert sum(weight.default for weight in candidates) == (0 if optional.pop() else 1), slot


@pytest.mark.parametrize("weight", LOCK.weights, ids=ids)
def test_what_is_fetched_is_fixed_by_a_commit_or_by_hashes(weight: Weight):
    """Whatever is neither must say so: its first download is the pin."""
    commit = isinstance(weight.source, HubSource) and re.fullmatch("[0-9a-f]{40}", weight.source.revision)
    fixed = commit or all(file.pinned for file in weight.files)
    assert fixed or "no fixed revision" in weight.note


@pytest.mark.parametrize("weight", LOCK.weights, ids=ids)
def test_a_file_without_a_hash_is_told_of(weight: Weight):
    assert all(file.pinned for file in weight.files) or re.search("no public hash", weight.note, re.IGNORECASE)


@pytest.mark.parametrize("weight", LOCK.weights, ids=ids)
def test_plain_urls_can_be_checked_without_asking_anyone(weight: Weight):
    if isinstance(weight.source, HubSource):
        return
    assert all(file.pinned and file.size for file in weight.files)
    assert weight.source.unpack is None or (weight.source.size and weight.source.sha256)


@pytest.mark.parametrize("weight", LOCK.weights, ids=ids)
def test_restrictions_are_explained(weight: Weight):
    assert weight.commercial is True or weight.note


def test_a_commercial_service_finds_a_weight_for_every_role_but_the_two_of_faces():
    commercial = {slot_of(weight.role) for weight in LOCK.weights if weight.commercial is True}
    unfilled = {slot_of(weight.role) for weight in LOCK.weights} - commercial
    assert unfilled == {"face_parser", "face_analysis"}


@pytest.mark.parametrize("weight", LOCK.weights, ids=ids)
def test_loaders_find_no_pickle(weight: Weight):
    assert {Path(file.path).suffix for file in weight.files} <= {".safetensors", ".onnx", ".json", ".txt"}
    assert all(file.converted for file in weight.files if file.origin.endswith(PICKLES))


def test_the_same_content_has_the_same_hash_everywhere():
    known: dict[str, int] = {}
    for file in (file for weight in LOCK.weights for file in weight.files if file.pinned and file.size):
        assert known.setdefault(file.sha256, file.size) == file.size


@pytest.fixture(scope="module")
def stand_ins(demo_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file or folder for every role: demo weights, and a matting network where they have none."""
    found = {weight.role: demo_weights / weight.path for weight in read_installed(demo_weights).weights}
    network = write_red(tmp_path_factory.mktemp("matting") / "network.onnx")
    return {role: network for role in MATTINGS} | found


def lay_out(chosen: list[Weight], stand_ins: dict[str, Path], root: Path) -> dict[str, Path]:
    """Fill `root` with exactly the files that the lock names; the path of every role."""
    for weight in chosen:
        for file in weight.files:
            source, target = _stand_in(weight, file, stand_ins), root / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return {weight.role: root / weight.path for weight in chosen}


def _stand_in(weight: Weight, file: WeightFile, stand_ins: dict[str, Path]) -> Path:
    source = stand_ins[weight.role]
    return source / Path(file.path).relative_to(weight.path) if source.is_dir() else source


@pytest.fixture
def demo_sizes(demo_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sizes of SDXL's networks are part of the program; the demo weights' networks are narrower."""
    monkeypatch.setattr(single_file, "SDXL", demo_weights / "sdxl" / "config")
    yield


@pytest.mark.usefixtures("demo_sizes")
@pytest.mark.parametrize(("slug", "chosen"), ALL_CHOICES)
def test_loaders_open_the_files_of_the_lock_and_no_others(
    slug: str, chosen: list[Weight], stand_ins: dict[str, Path], tmp_path: Path
):
    weights = WeightSet("real", lay_out(chosen, stand_ins, tmp_path))
    (tmp_path / "untouched").write_text("to see that not everything counts as opened")
    with opened(tmp_path) as files:
        MODELS[slug].load(weights, CPU)
    assert files == {file.path for weight in chosen for file in weight.files}


def test_every_weight_of_the_lock_was_loaded_above():
    used = {weight.name for slug in MODELS for chosen in choices(slug) for weight in chosen}
    assert used == BY_NAME.keys()


class Asked(dict[str, Path]):
    """Paths by role, and the roles that were asked for."""

    def __init__(self, paths: dict[str, Path]) -> None:
        super().__init__(paths)
        self.roles: set[str] = set()

    def __getitem__(self, role: str) -> Path:
        self.roles.add(role)
        return super().__getitem__(role)

    def __contains__(self, role: object) -> bool:
        self.roles.add(str(role))
        return super().__contains__(role)


@pytest.mark.usefixtures("demo_sizes")
@pytest.mark.parametrize("slug", MODELS)
def test_the_roles_are_those_that_loaders_ask_for(slug: str, stand_ins: dict[str, Path], tmp_path: Path):
    paths = Asked(lay_out(choices(slug)[0], stand_ins, tmp_path))
    MODELS[slug].load(WeightSet("real", paths), CPU)
    assert paths.roles == {weight.role for weight in LOCK.weights if slug in weight.used_by}


def test_the_pins_of_the_tokenizers_are_those_of_clips_own_vocabulary(tmp_path: Path):
    """Here the files can be made anew, to the byte; what they are loaded into pads and reads as it should."""
    pinned = {file.origin: (file.size, file.sha256) for file in BY_NAME["sdxl-tokenizers"].files}
    for folder, padding in (("tokenizer", END), ("tokenizer_2", "!")):
        (tmp_path / folder).mkdir()
        for name, content in published_tokenizer(padding).items():
            (tmp_path / folder / name).write_bytes(content)
            assert pinned.pop(f"{folder}/{name}") == (len(content), hashlib.sha256(content).hexdigest())
    assert not pinned

    first, second = load_tokenizers(Folder.as_found(tmp_path))
    wow = [49406, 2781, 256, 320, 2368, 49407]
    assert tokenize("Wow! a cat", first).ids == [[*wow, *[49407] * 71]]
    assert tokenize("Wow! a cat", second).ids == [[*wow, *[0] * 71]]


@pytest.mark.parametrize("name", ["stable-diffusion-v1.5"])
def test_other_tokenizers_are_of_the_same_vocabulary(name: str):
    files = published_tokenizer(END)
    pinned = {Path(file.origin).name: file.sha256 for file in BY_NAME[name].files if "tokenizer/" in file.origin}
    assert pinned == {file: hashlib.sha256(files[file]).hexdigest() for file in ("vocab.json", "merges.txt")}
