"""The demo networks of the identity, read by the loaders of the real ones, against the formula of the face code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from insightface.model_zoo import get_model
from insightface.utils.face_align import norm_crop
from skimage import data

from models.demo import face_code
from models.demo.face_detector import write_detector
from models.demo.face_recogniser import write_recogniser
from models.demo.identity import write_adapter, write_eva_clip, write_face_parser
from models.pulid_lightning.adapter import read_adapter
from models.pulid_lightning.identity.bisenet import load_bisenet
from models.pulid_lightning.identity.encoder import Identity
from models.pulid_lightning.identity.eva_clip import load_eva_clip
from models.pulid_lightning.identity.extractor import IdentityExtractor, load_encoder
from models.pulid_lightning.identity.face import FaceFinder, FoundFace, align
from models.runtime.state_dicts import read_state_dict
from models.weights.folder import Folder
from tests.models.demo.stand_ins import write_stand_ins

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("identity")
    (folder / "faces").mkdir()
    write_detector(folder / "faces" / "detector.onnx")
    write_recogniser(folder / "faces" / "recogniser.onnx")
    write_face_parser(folder / "parser")
    write_eva_clip(folder / "tower")
    write_adapter(folder / "adapter", write_stand_ins(folder / "trained"))
    return folder


@pytest.fixture(scope="module")
def extractor(files: Path) -> IdentityExtractor:
    parser = load_bisenet(read_state_dict(files / "parser"), CPU)
    eva = load_eva_clip(read_state_dict(files / "tower"), CPU)
    return IdentityExtractor(parser, eva, load_encoder(read_adapter(files / "adapter").encoder, CPU), CPU)


@pytest.fixture(scope="module")
def portrait(files: Path, extractor: IdentityExtractor) -> tuple[Identity, torch.Tensor]:
    """Tokens of a photo's face by the networks, and by the formula from the crops that they were given."""
    photo = data.astronaut()
    bgr = np.ascontiguousarray(photo[..., ::-1])
    detector = get_model(str(files / "faces" / "detector.onnx"), providers=["CPUExecutionProvider"])
    detector.prepare(0, input_size=(640, 640), det_thresh=0.5)
    _, (keypoints,) = detector.detect(bgr, input_size=(640, 640))
    small = norm_crop(bgr, keypoints, 112)[..., ::-1]
    found = FaceFinder(Folder.as_found(files / "faces")).find(photo)
    return extractor.extract(found), formula(align(photo, keypoints), small)


@pytest.fixture(scope="module")
def noise(files: Path, extractor: IdentityExtractor) -> tuple[Identity, torch.Tensor]:
    """The same of random crops, in which every half patch has a brightness and a colour of its own."""
    generator = np.random.default_rng(3)
    crop, small = (
        np.kron(generator.integers(0, 256, (cells, cells, 3)), np.ones((side, side, 1))).astype(np.uint8)
        for cells, side in ((64, 8), (16, 7))
    )
    recogniser = get_model(str(files / "faces" / "recogniser.onnx"), providers=["CPUExecutionProvider"])
    (embedding,) = recogniser.get_feat(np.ascontiguousarray(small[..., ::-1]))
    return extractor.extract(FoundFace(crop, embedding)), formula(crop, small)


def formula(crop: np.ndarray, recogniser_crop: np.ndarray) -> torch.Tensor:
    luma, chroma = face_code.grids(crop, np.ascontiguousarray(recogniser_crop))
    return face_code.tokens(torch.from_numpy(luma)[None], torch.from_numpy(chroma)[None])


def farthest(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


def test_the_tokens_of_a_photo_are_those_of_the_formula(portrait: tuple[Identity, torch.Tensor]):
    identity, expected = portrait
    assert farthest(identity.cond, expected) < 0.005


def test_the_tokens_of_noise_are_those_of_the_formula(noise: tuple[Identity, torch.Tensor]):
    identity, expected = noise
    assert farthest(identity.cond, expected) < 0.005


def test_the_unconditional_tokens_are_those_of_grey(noise: tuple[Identity, torch.Tensor]):
    identity, _ = noise
    grey = face_code.tokens(torch.zeros(1, *face_code.LUMA), torch.zeros(1, 2, *face_code.CHROMA))
    assert farthest(identity.uncond, grey) < 0.001


def test_every_row_of_both_grids_tells_faces_apart(
    portrait: tuple[Identity, torch.Tensor], noise: tuple[Identity, torch.Tensor]
):
    differences = (portrait[0].cond - noise[0].cond)[0].abs().amax(1)
    assert len(differences) == 2 * face_code.TOKENS
    assert differences.min() > 0.1
