"""Folders of weights are read by their record: what else lies there is told of, and neither opened nor used."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from skimage import data

from models.catalog import MODELS
from models.errors import WeightFileError
from models.ic_light.networks import MATTINGS
from models.pulid_lightning.identity.face import FaceFinder
from models.weights.installed import WeightSet, describe, read_installed, write_installed
from tests.models.ic_light.test_matting_onnx import write_red
from tests.models.opened import opened
from tests.models.weights.test_wrong_files import drawn
from tests.models.weights.wrong_files import CHANCE, HTML

CPU = torch.device("cpu")
STRANGERS = {
    "pulid-lightning": {
        "face/analysis/0_first.onnx": "face/analysis/glintr100.onnx",
        "face/analysis/2d106det.onnx": HTML,
        "face/analysis/manifest.json": b"{}",
        "face/analysis/package.json": CHANCE,
        "sdxl/config/tokenizer/tokenizer.json": HTML,
        "sdxl/config/tokenizer/added_tokens.json": b'{"a": 5}',
        "sdxl/config/tokenizer/chat_template.jinja": CHANCE,
        "sdxl/config/unet/diffusion_pytorch_model.safetensors.index.json": HTML,
    },
    "ic-light": {
        "sd15/model_index.json": HTML,
        "sd15/tokenizer/tokenizer.json": HTML,
        "sd15/tokenizer/added_tokens.json": b'{"a": 5}',
        "sd15/text_encoder/generation_config.json": HTML,
        "sd15/text_encoder/adapter_config.json": HTML,
        "sd15/text_encoder/model.safetensors.index.json": HTML,
        "sd15/unet/diffusion_pytorch_model.safetensors.index.json": HTML,
        "sd15/vae/diffusion_pytorch_model.safetensors.index.json": HTML,
        "sd15/vae/diffusion_pytorch_model.bin": CHANCE,
        "sd15/scheduler/scheduler_config.json": b'{"prediction_type": "v_prediction"}',
    },
}


@pytest.fixture
def root(demo_weights: Path, tmp_path: Path) -> Path:
    """The demo weights, copied."""
    return shutil.copytree(demo_weights, tmp_path / "weights")


def put(root: Path, strangers: dict[str, bytes | str]) -> None:
    for name, content in strangers.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((root / content).read_bytes() if isinstance(content, str) else content)


@pytest.mark.parametrize("slug", ["ic-light", pytest.param("pulid-lightning", marks=pytest.mark.slow)])
def test_what_is_not_recorded_is_told_of_and_makes_no_difference(
    demo_weights: Path, root: Path, caplog: pytest.LogCaptureFixture, slug: str
):
    options = MODELS[slug].options.model_validate({"checkpoints": ("default",)})
    skip = MODELS[slug].unused_roles(options)
    usual = drawn(MODELS[slug].load(WeightSet.open(demo_weights, slug, skip=skip), CPU, options), slug)
    put(root, STRANGERS[slug])
    caplog.clear()
    with opened(root) as files:
        pipeline = MODELS[slug].load(WeightSet.open(root, slug, skip=skip), CPU, options)
    assert not files & STRANGERS[slug].keys()
    assert np.array_equal(drawn(pipeline, slug), usual)
    told = " ".join(line for line in caplog.messages if "not recorded, and not read: " in line)
    first = sorted(STRANGERS[slug])[0]
    assert first.rpartition("/")[2] in told
    assert len(STRANGERS[slug]) <= 5 or "more" in told or told.count(".") >= len(STRANGERS[slug])


def test_the_verified_networks_are_taken_whatever_lies_before_them(demo_weights: Path, root: Path):
    """By name the first of its task would be taken: here one that gives other embeddings."""
    usual = FaceFinder(WeightSet.open(demo_weights, "pulid-lightning").folder("face_analysis")).find(data.astronaut())
    model = onnx.load(root / "face/analysis/glintr100.onnx")
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.FLOAT and len(weight.dims) > 1:
            values = onnx.numpy_helper.to_array(weight)[::-1]
            weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weight.name))
    onnx.save(model, root / "face/analysis/a_better_one.onnx")
    others = WeightSet("demo", {"face_analysis": root / "face/analysis"}).folder("face_analysis")
    assert not np.allclose(FaceFinder(others).find(data.astronaut()).embedding, usual.embedding, atol=0.1)
    found = FaceFinder(WeightSet.open(root, "pulid-lightning").folder("face_analysis")).find(data.astronaut())
    assert np.array_equal(found.embedding, usual.embedding) and np.array_equal(found.crop, usual.crop)


def test_a_file_that_a_loader_wants_must_be_recorded(root: Path):
    record = read_installed(root)
    (base,) = (weight for weight in record.weights if weight.role == "sd15")
    files = [file for file in base.files if not file.path.endswith("vae/config.json")]
    others = [weight for weight in record.weights if weight.role != "sd15"]
    write_installed(root, [*others, base.model_copy(update={"files": files})], "demo")
    with pytest.raises(WeightFileError, match=r"sd15/vae/config\.json: not recorded in installed\.toml"):
        MODELS["ic-light"].load(WeightSet.open(root, "ic-light"), CPU)


def test_the_sizes_of_networks_are_recorded_ones_or_the_programs_own(root: Path):
    record = read_installed(root)
    (config,) = (weight for weight in record.weights if weight.role == "sdxl_config")
    files = [file for file in config.files if not file.path.endswith("model_index.json")]
    others = [weight for weight in record.weights if weight.role != "sdxl_config"]
    write_installed(root, [*others, config.model_copy(update={"files": files})], "demo")
    with pytest.raises(WeightFileError, match=r"tokenizer/.*its text encoder 49408"):
        MODELS["pulid-lightning"].load(WeightSet.open(root, "pulid-lightning"), CPU)


def test_an_onnx_network_reads_no_file_beside_it(tmp_path: Path):
    """Its tensors may lie in a file that it names: one that nobody has verified."""
    model = onnx.load(write_red(tmp_path / "inner.onnx"))
    (tmp_path / "data").write_bytes(np.full(1, 2.0, np.float32).tobytes())
    beside = TensorProto(name="beside", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "data", "offset": "0", "length": "4"}.items():
        beside.external_data.add(key=key, value=value)
    model.graph.initializer.append(beside)
    last = model.graph.node[-1]
    result, last.output[0] = last.output[0], "before"
    model.graph.node.append(helper.make_node("Mul", ["before", "beside"], [result]))
    (tmp_path / "outer.onnx").write_bytes(model.SerializeToString())
    assert onnxruntime.InferenceSession(tmp_path / "outer.onnx").get_inputs(), "for itself it is a sound network"
    described = describe(tmp_path, "matting_onnx_isnet", "outer.onnx", ["ic-light"], "MIT")
    write_installed(tmp_path, [described], "real")
    weights = WeightSet.open(tmp_path, "ic-light")
    with pytest.raises(WeightFileError, match=r"outer\.onnx: ") as caught:
        MATTINGS["matting_onnx_isnet"](weights["matting_onnx_isnet"], CPU)
    assert "facelight-" not in str(caught.value)
