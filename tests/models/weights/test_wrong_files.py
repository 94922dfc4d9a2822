"""Every file of both models replaced by files of another kind, recorded as an operator's own lock would have it.

Either the load is refused with an error that names the file, or what was loaded draws the very same picture: the file
is one that is not read, or says the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

import models.ic_light.networks
import models.pulid_lightning.checkpoints
import models.pulid_lightning.pipeline
from models.catalog import MODELS
from models.errors import WeightFileError
from models.pipeline import Pipeline
from models.runtime.load import load_part
from models.weights.hashes import HashCache
from models.weights.installed import (
    InstalledWeight,
    WeightSet,
    describe,
    describe_file,
    read_installed,
    write_installed,
)
from tests.cli.weights.hub import sha256
from tests.live_server import png
from tests.models.ic_light.test_matting_onnx import write_red
from tests.models.weights.wrong_files import KINDS

CPU = torch.device("cpu")
HASHES = HashCache()
Picture = Callable[[str, bool], np.ndarray]
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
FILES = {
    "pulid-lightning": (
        *(f"sdxl/config/tokenizer/{file}" for file in TOKENIZER),
        *(f"sdxl/config/tokenizer_2/{file}" for file in TOKENIZER),
        *(f"sdxl/config/{name}/config.json" for name in ("unet", "vae", "text_encoder", "text_encoder_2")),
        *(f"sdxl/{name}.safetensors" for name in ("default", "artistic")),
        *("pulid/adapter.safetensors", "pulid/eva_clip.safetensors", "face/parsing_bisenet.safetensors"),
        *("face/analysis/scrfd_10g_bnkps.onnx", "face/analysis/glintr100.onnx"),
    ),
    "ic-light": (
        *(f"sd15/tokenizer/{file}" for file in TOKENIZER),
        *("sd15/text_encoder/config.json", "sd15/text_encoder/model.safetensors"),
        *(f"sd15/{name}/config.json" for name in ("unet", "vae")),
        *(f"sd15/{name}/diffusion_pytorch_model.safetensors" for name in ("unet", "vae")),
        *("ic-light/iclight_sd15_fc.safetensors", "ic-light/iclight_sd15_fbc.safetensors"),
        *("rmbg/model.safetensors", "matting/isnet.onnx"),
    ),
}
REQUESTS = {
    "pulid-lightning": {"face_image": "file", "prompt": "a cat", "seed": 1, "width": 256, "height": 256},
    "ic-light": {"subject_image": "file", "prompt": "a cat", "seed": 1, "width": 256, "height": 256, "steps": 1},
}
CASES = [(slug, file, kind) for slug, files in FILES.items() for file in files for kind in KINDS]
IN_SHORT = [case for number, case in enumerate(CASES) if number % 13 == 3]
"""Every kind and every file; 13 has no divisor in common with the number of kinds."""


@pytest.fixture(scope="module", autouse=True)
def quick_loading() -> Iterator[None]:
    """Parts whose files are those of another case come from there: the file that differs is all that is read anew."""
    kept: dict[object, object] = {}

    def load_once(name: str, load: Callable[..., Any], *paths: Path) -> Any:
        key = name, _digest(paths), _digest(_beside(paths[-1])) if name.startswith("sdxl") else ""
        if key not in kept:
            kept[key] = load_part(name, load, *paths)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        for module in (models.ic_light.networks, models.pulid_lightning.checkpoints, models.pulid_lightning.pipeline):
            patch.setattr(module, "load_part", load_once)
        yield


def _beside(checkpoint: Path) -> list[Path]:
    return [checkpoint.parent / "config"]


def _digest(paths: Any) -> str:
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    found = [(file.resolve(), file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(repr(found).encode()).hexdigest()


class Operator:
    """Someone with a folder of links to the demo weights, who records whatever lies there."""

    def __init__(self, demo: Path, root: Path) -> None:
        self.root = root
        self._weights = read_installed(demo).weights
        for weight in self._weights:
            for file in weight.files:
                (root / file.path).parent.mkdir(parents=True, exist_ok=True)
                (root / file.path).symlink_to(demo / file.path)

    def replace(self, name: str, content: bytes) -> None:
        (self.root / name).unlink()
        (self.root / name).write_bytes(content)

    def use_onnx_matting(self, network: Path) -> None:
        (self.root / "matting").mkdir()
        (self.root / "matting" / "isnet.onnx").write_bytes(network.read_bytes())
        self._weights = [weight for weight in self._weights if weight.role != "rmbg"]
        self._weights.append(describe(self.root, "matting_onnx_isnet", "matting/isnet.onnx", ["ic-light"], "MIT"))

    def add(self, role: str, name: str) -> None:
        """Record a further file of a role."""
        described = describe_file(self.root, name)
        self._weights = [
            weight.model_copy(update={"files": [*weight.files, described]}) if weight.role == role else weight
            for weight in self._weights
        ]
        self.record(name)

    def record(self, changed: str) -> None:
        """Write the record of the files as they are now."""
        write_installed(self.root, [self._described(weight, changed) for weight in self._weights], "real")

    def _described(self, weight: InstalledWeight, changed: str) -> InstalledWeight:
        content = (self.root / changed).read_bytes()
        update = {"size": len(content), "sha256": sha256(content)}
        files = [file.model_copy(update=update) if file.path == changed else file for file in weight.files]
        return weight.model_copy(update={"files": files})


@pytest.fixture(scope="module")
def onnx_matting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_red(tmp_path_factory.mktemp("matting") / "isnet.onnx")


def drawn(pipeline: Pipeline[Any, Any], slug: str) -> np.ndarray:
    params = MODELS[slug].params(**REQUESTS[slug])
    image = {"pulid-lightning": ("face_image", data.astronaut()), "ic-light": ("subject_image", data.chelsea())}[slug]
    prepared = pipeline.prepare(params, {image[0]: png(image[1])})
    return pipeline.run([prepared], lambda step, total: None)[0]


@pytest.fixture(scope="module")
def usual(demo_weights: Path, onnx_matting: Path, tmp_path_factory: pytest.TempPathFactory) -> Picture:
    """The pictures of sound weights, by slug and matting network."""
    made: dict[tuple[str, bool], np.ndarray] = {}

    def usual_picture(slug: str, with_onnx: bool) -> np.ndarray:
        if (slug, with_onnx) not in made:
            operator = Operator(demo_weights, tmp_path_factory.mktemp("sound"))
            if with_onnx:
                operator.use_onnx_matting(onnx_matting)
            operator.record("rmbg/model.safetensors")
            made[slug, with_onnx] = drawn(loaded(operator.root, slug), slug)
        return made[slug, with_onnx]

    return usual_picture


def loaded(root: Path, slug: str) -> Pipeline[Any, Any]:
    options = MODELS[slug].options.model_validate({"checkpoints": ("default", "artistic")})
    weights = WeightSet.open(root, slug, HASHES, skip=MODELS[slug].unused_roles(options))
    return MODELS[slug].load(weights, CPU, options)


@pytest.mark.parametrize(
    ("slug", "file", "kind"),
    [pytest.param(*case, marks=() if case in IN_SHORT else pytest.mark.slow, id=":".join(case)) for case in CASES],
)
def test_a_wrong_file_is_named_or_makes_no_difference(
    demo_weights: Path, tmp_path: Path, onnx_matting: Path, usual, slug: str, file: str, kind: str
):
    operator = Operator(demo_weights, tmp_path)
    if with_onnx := file == "matting/isnet.onnx":
        operator.use_onnx_matting(onnx_matting)
    content = KINDS[kind](operator.root / file)
    assert content != (operator.root / file).read_bytes(), "the file is not another one"
    operator.replace(file, content)
    operator.record(file)
    try:
        pipeline = loaded(tmp_path, slug)
    except WeightFileError as error:
        files, reason = str(error).split(": ", 1)
        assert str(tmp_path / file) in files.split(" and "), error
        assert reason and len(reason) < 500 and "\n" not in reason
        assert (
            "facelight-" not in reason.replace(str(tmp_path), "")
            and "weights_only" not in reason
            and "trust" not in reason
        )
        return
    assert np.array_equal(drawn(pipeline, slug), usual(slug, with_onnx))


def test_the_cases_are_the_files_of_the_lock_and_every_kind(demo_weights: Path):
    recorded = {file.path for weight in read_installed(demo_weights).weights for file in weight.files}
    unread = {f"sdxl/config/{name}" for name in ("model_index.json", "scheduler/scheduler_config.json")}
    alike = {"sdxl/realistic.safetensors"}  # loaded by the same code as the artistic one
    listed = {file for files in FILES.values() for file in files}
    assert listed - {"matting/isnet.onnx"} == recorded - unread - alike
    assert {kind for *_, kind in IN_SHORT} == set(KINDS)
    assert {file for _, file, _ in IN_SHORT} == listed
