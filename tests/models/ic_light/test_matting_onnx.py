"""Matting networks in ONNX files: their protocols, and whole requests with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from models.errors import WeightsError
from models.ic_light.networks import MATTINGS, load_networks
from models.ic_light.params import Params
from models.ic_light.pipeline import IcLight
from models.weights.installed import WeightSet

CPU = torch.device("cpu")
BIREFNET, ISNET = "matting_onnx_birefnet", "matting_onnx_isnet"
SIDES = (32, 48)
"""Height and width of the test networks' input."""


def write_red(file: Path, sides: tuple[int | str, int | str] = SIDES, rank: int = 4) -> Path:
    """A network whose map is the first channel of its input, followed by a second output that must not count."""
    shape = [1, 3, *sides][-rank:]
    one = [helper.make_tensor(name, TensorProto.INT64, [1], [n]) for name, n in (("from", 0), ("to", 1), ("axis", -3))]
    nodes = [
        helper.make_node("Slice", ["pixels", "from", "to", "axis"], ["map"]),
        helper.make_node("Neg", ["map"], ["other"]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("map", "other")]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)
    model = helper.make_model(helper.make_graph(nodes, "red", [pixels], outputs, one), ir_version=9)
    model.opset_import[0].version = 19
    onnx.save(model, file)
    return file


def alpha_of(role: str, file: Path, picture: torch.Tensor) -> torch.Tensor:
    matting = MATTINGS[role](file, CPU)
    return matting.alpha(matting.to_feed(picture), picture.shape[1], picture.shape[0])


def red(*levels: int) -> torch.Tensor:
    """A picture of the networks' size in vertical stripes of these red levels."""
    picture = np.zeros((*SIDES, 3), dtype=np.uint8)
    picture[..., 0] = np.repeat(levels, SIDES[1] // len(levels))
    return torch.from_numpy(picture)


def test_birefnet_sees_imagenets_normalisation_and_gives_logits(tmp_path: Path):
    alpha = alpha_of(BIREFNET, write_red(tmp_path / "n.onnx"), red(0, 124, 255))[0, [2, 24, 46], 0]
    # (0 / 255 - 0.485) / 0.229 = -2.118, (124 / 255 - 0.485) / 0.229 = 0.0056, (1 - 0.485) / 0.229 = 2.249
    assert torch.allclose(alpha, torch.tensor([-2.1179, 0.0056, 2.2489]).sigmoid(), atol=1e-4)


@pytest.mark.parametrize("brightest", [100, 255])
def test_isnet_sees_the_picture_relative_to_its_maximum_and_is_stretched(tmp_path: Path, brightest: int):
    levels = (brightest // 5, brightest // 5 * 3, brightest)
    alpha = alpha_of(ISNET, write_red(tmp_path / "n.onnx"), red(*levels))[0, [2, 24, 46], 0]
    assert torch.allclose(alpha, torch.tensor([0.0, 0.5, 1.0]), atol=1e-6)


def test_isnet_without_contrast_gives_a_map_without_contrast(tmp_path: Path):
    alpha = alpha_of(ISNET, write_red(tmp_path / "n.onnx"), red(90))
    # 90 / 90 - 0.5
    assert torch.allclose(alpha, torch.tensor(0.5))


def test_isnet_takes_a_black_picture(tmp_path: Path):
    assert torch.isfinite(alpha_of(ISNET, write_red(tmp_path / "n.onnx"), red(0))).all()


@pytest.mark.parametrize("role", [BIREFNET, ISNET])
def test_alpha_keeps_the_contract(tmp_path: Path, noise: torch.Tensor, role: str):
    alpha = alpha_of(role, write_red(tmp_path / "n.onnx"), noise)
    assert (alpha.shape, alpha.dtype) == ((120, 90, 1), torch.float32)
    assert 0 <= alpha.min() < alpha.max() <= 1


@pytest.mark.parametrize(("sides", "feed"), [(SIDES, (1, 1, 32, 48)), (("height", "width"), (1, 1, 1024, 1024))])
def test_the_size_is_the_files_own_or_the_published_one(tmp_path: Path, noise: torch.Tensor, sides, feed):
    matting = MATTINGS[BIREFNET](write_red(tmp_path / "n.onnx", sides), CPU)
    assert matting.to_feed(noise).shape == feed


def test_what_is_no_matting_network_is_refused(tmp_path: Path):
    (tmp_path / "text.onnx").write_text("not a graph")
    for file in (tmp_path / "text.onnx", tmp_path / "absent.onnx", write_red(tmp_path / "three.onnx", rank=3)):
        with pytest.raises(WeightsError, match=file.name):
            MATTINGS[ISNET](file, CPU)


@pytest.mark.parametrize("role", [BIREFNET, ISNET])
def test_a_whole_request_runs_with_the_role_that_the_weights_hold(
    weights: WeightSet, tmp_path: Path, astronaut: bytes, role: str
):
    paths = {name: path for name, path in weights.paths.items() if name != "rmbg"}
    model = IcLight(load_networks(WeightSet("real", {**paths, role: write_red(tmp_path / "n.onnx")}), CPU))
    params = Params(subject_image="file", prompt="a cat", width=256, height=256, steps=1, highres_scale=1, seed=1)
    pixels = model.run([model.prepare(params, {"subject_image": astronaut})], lambda step, total: None)[0]
    assert pixels.std() > 10
