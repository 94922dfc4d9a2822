"""The whole endpoint, from encoded picture to encoded pictures, with the demo weights."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data

from models.catalog import MODELS
from models.errors import InputRefused, NoFaceFound, UnreadableImage, WeightsError
from models.pulid_lightning.checkpoints import load_checkpoints
from models.pulid_lightning.identity.extractor import IdentityExtractor
from models.pulid_lightning.identity.face import FaceFinder
from models.pulid_lightning.options import Options
from models.pulid_lightning.params import Params
from models.pulid_lightning.pipeline import PulidLightning, load
from models.weights.installed import WeightSet

SMALL = {"face_image": "portrait", "seed": 412431, "width": 256, "height": 256}


@pytest.fixture(scope="module")
def draw(pipeline: PulidLightning, portrait, png):
    """Draw with the small request, changed by keywords; `picture` replaces the photo."""

    def run(picture=None, on_step=lambda step, total: None, **changes):
        photo = png(portrait if picture is None else picture)
        return pipeline.run([pipeline.prepare(Params(**SMALL | changes), {"face_image": photo})], on_step)[0]

    return run


@pytest.fixture(scope="module")
def usual(draw):
    return draw()


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean difference of two pictures in levels of 255."""
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


def test_a_picture_comes_out(usual: np.ndarray):
    assert usual.shape == (1, 256, 256, 3)
    assert usual.dtype == np.uint8
    assert usual.std() > 20


def test_the_same_request_gives_the_same_bytes(draw, usual: np.ndarray):
    assert np.array_equal(draw(), usual)


def test_the_face_counts(draw, usual: np.ndarray, portrait):
    assert distance(draw(portrait[:, ::-1]), usual) > 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a red cat"},
        pytest.param({"prompt": "A (photo:1.5) of a person"}, marks=pytest.mark.slow),
        {"negative_prompt": "blue sunset"},
        {"face_style": "stylized"},
        {"seed": 412432},
        pytest.param({"checkpoint_model": "artistic"}, marks=pytest.mark.slow),
        {"checkpoint_model": "realistic"},
    ],
    ids=str,
)
def test_every_parameter_counts(draw, usual: np.ndarray, change):
    assert distance(draw(**change), usual) > 0.3


def test_several_pictures_differ_and_the_first_is_the_single_one(draw, usual: np.ndarray):
    pictures = draw(number_of_images=2)
    assert pictures.shape == (2, 256, 256, 3)
    assert distance(pictures[0], usual[0]) < 1
    assert distance(pictures[0], pictures[1]) > 5


def test_prompts_may_be_longer_than_a_chunk(draw, usual: np.ndarray):
    assert distance(draw(prompt="a photo of a person, " * 40), usual) > 0.3


def test_sides_need_not_be_equal_or_multiples_of_32(draw):
    assert draw(width=264, height=325).shape == (1, 320, 264, 3)


def test_progress_counts_the_evaluations(draw):
    steps = []
    draw(number_of_images=2, on_step=lambda step, total: steps.append((step, total)))
    assert steps == [(step, 7) for step in range(1, 8)]


def test_an_aborted_run_leaves_nothing_behind(draw, usual: np.ndarray):
    def stop(step: int, total: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(face_style="stylized", on_step=stop)
    assert np.array_equal(draw(), usual)


def test_a_face_is_looked_at_once(pipeline: PulidLightning, portrait, png, monkeypatch: pytest.MonkeyPatch):
    unseen = portrait // 2  # no other test's photo
    seen: list[str] = []
    for owner, name in ((FaceFinder, "find"), (IdentityExtractor, "extract")):
        work = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, work=work, name=name: seen.append(name) or work(*args))
    pictures = [
        pipeline.run([pipeline.prepare(Params(**SMALL | change), {"face_image": png(unseen)})], lambda *_: None)[0]
        for change in ({}, {"seed": 3}, {"checkpoint_model": "artistic", "face_style": "stylized"}, {})
    ]
    assert seen == ["find", "extract"]
    assert np.array_equal(pictures[0], pictures[-1])
    pipeline.run([pipeline.prepare(Params(**SMALL), {"face_image": png(unseen[:, ::-1])})], lambda *_: None)
    assert seen == ["find", "extract"] * 2


def test_networks_that_find_faces_on_the_cpu_are_reported_with_the_model(
    pipeline: PulidLightning, weights: WeightSet, monkeypatch: pytest.MonkeyPatch
):
    assert pipeline.execution.fallback == "", "without an accelerator nothing falls back"
    finder = FaceFinder(weights.folder("face_analysis"), torch.device("cpu"))
    monkeypatch.setattr(pipeline, "_face_finder", finder)
    assert pipeline.execution.fallback == "; ".join(finder.fallbacks)
    assert pipeline.execution.fallback.count("runs on the CPU instead of cpu because of operator") == 2


@pytest.mark.slow
def test_the_operator_may_choose_the_original_share(weights: WeightSet, portrait, png, usual: np.ndarray):
    official = load(weights, torch.device("cpu"), Options(pulid_body_weighting="official"))
    prepared = official.prepare(Params(**SMALL), {"face_image": png(portrait)})
    assert not np.array_equal(official.run([prepared], lambda step, total: None)[0], usual)


def test_checkpoints_share_what_is_equal(weights: WeightSet):
    paths = weights.paths | {"sdxl_checkpoint_artistic": weights["sdxl_checkpoint_default"]}
    checkpoints = load_checkpoints(WeightSet(kind="demo", paths=paths), Params.variants, torch.device("cpu"))
    first, same, other = (
        {
            parameter.data_ptr()
            for network in (checkpoints.activate(name).unet, checkpoints.activate(name).vae)
            for parameter in network.parameters()
        }
        for name in ("default", "artistic", "realistic")
    )
    assert first == same
    ours, theirs = (load_file(weights[f"sdxl_checkpoint_{name}"]) for name in ("default", "realistic"))
    different = [key for key in ours if not torch.equal(ours[key], theirs[key])]
    assert len(first - other) == sum(
        key.startswith(("model.diffusion_model.", "first_stage_model.")) for key in different
    )


def test_orientation_is_applied(pipeline: PulidLightning, portrait, png):
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(portrait)).save(turned, "PNG", exif=exif)
    params = Params(**SMALL)
    found = pipeline.prepare(params, {"face_image": turned.getvalue()}).face
    upright = pipeline.prepare(params, {"face_image": png(portrait)}).face
    assert np.array_equal(found.crop, upright.crop)


@pytest.mark.slow
def test_a_picture_without_a_face_is_refused(pipeline: PulidLightning, png):
    with pytest.raises(NoFaceFound, match="face_image"):
        pipeline.prepare(Params(**SMALL), {"face_image": png(data.coffee())})


def test_bytes_that_are_no_picture_are_refused(pipeline: PulidLightning):
    with pytest.raises(UnreadableImage):
        pipeline.prepare(Params(**SMALL), {"face_image": b"GIF89a"})


def test_the_unsafe_is_always_negative(pipeline: PulidLightning, portrait, png):
    prepared = pipeline.prepare(Params(**SMALL, negative_prompt="cat"), {"face_image": png(portrait)})
    negative = pipeline.prepare(Params(**SMALL, prompt="nsfw, nude, cat"), {"face_image": png(portrait)}).prompt
    assert prepared.negative_prompt == negative


@pytest.mark.parametrize("image_format", ["png", "jpg", "webp"])
def test_pictures_are_encoded_as_asked(pipeline: PulidLightning, usual: np.ndarray, image_format: str):
    (encoded,) = pipeline.finish(Params(**SMALL, output_format=image_format), usual)
    picture = Image.open(io.BytesIO(encoded))
    assert picture.format == {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[image_format]
    assert picture.size == (256, 256)


def test_the_catalog_leads_here():
    assert MODELS["pulid-lightning"].module == "models.pulid_lightning.pipeline"


def test_a_checkpoint_that_is_not_loaded_is_refused(weights: WeightSet, portrait, png):
    pipeline = load(weights, torch.device("cpu"), Options(checkpoints=("artistic",)))
    assert pipeline.variants == ("artistic",)
    with pytest.raises(InputRefused, match="checkpoint_model cannot be served"):
        pipeline.prepare(Params(**SMALL), {"face_image": png(portrait)})


@pytest.mark.slow
def test_without_a_choice_all_checkpoints_that_there_are_are_loaded(weights: WeightSet):
    paths = {role: path for role, path in weights.paths.items() if role != "sdxl_checkpoint_default"}
    assert load(WeightSet("demo", paths), torch.device("cpu")).variants == ("artistic", "realistic")
    with pytest.raises(WeightsError, match="sdxl_checkpoint_default"):
        load(WeightSet("demo", paths), torch.device("cpu"), Options(checkpoints=("default",)))
    none = {role: path for role, path in paths.items() if not role.startswith("sdxl_checkpoint")}
    with pytest.raises(WeightsError, match="sdxl_checkpoint_default, "):
        load(WeightSet("demo", none), torch.device("cpu"))


def test_every_part_is_told_with_its_size(weights: WeightSet, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    load(weights, torch.device("cpu"), Options(checkpoints=("artistic", "realistic")))
    told = [match for line in caplog.messages if (match := re.fullmatch(r"(\w+): (\d+) MB in \d+\.\d s", line))]
    assert [match[1] for match in told] == [
        *("face_analysis", "face_parser", "eva_clip", "pulid_adapter"),
        *("sdxl_checkpoint_artistic", "sdxl_checkpoint_realistic"),
    ]
    assert int(told[4][2]) == round(weights["sdxl_checkpoint_artistic"].stat().st_size / 1e6)


def test_a_set_without_a_role_is_refused(weights: WeightSet):
    paths = {role: path for role, path in weights.paths.items() if role != "eva_clip"}
    with pytest.raises(WeightsError, match="eva_clip"):
        load(WeightSet(kind="demo", paths=paths), torch.device("cpu"))


def test_requests_drawn_together_get_the_pictures_that_they_get_alone(pipeline: PulidLightning, portrait, png):
    """Other faces, seeds, numbers of pictures, and prompts of other lengths than their neighbours'."""
    requests = [
        (portrait, {}),
        (portrait[:, ::-1], {"seed": 7, "prompt": "a statue " * 60, "number_of_images": 2}),
        (portrait, {"seed": 8, "prompt": "a sailor", "negative_prompt": "rain " * 80}),
    ]
    batch = [pipeline.prepare(Params(**SMALL | changes), {"face_image": png(photo)}) for photo, changes in requests]
    assert len({pipeline.batch_key(prepared) for prepared in batch}) == 1
    steps = []
    together = pipeline.run(batch, lambda *step: steps.append(step))
    assert steps == [(step, 7) for step in range(1, 8)]
    alone = [pipeline.run([prepared], lambda step, total: None)[0] for prepared in batch]
    assert [len(pictures) for pictures in together] == [1, 2, 1]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 2


@pytest.mark.parametrize("change", [{"width": 320}, {"face_style": "stylized"}, {"checkpoint_model": "artistic"}])
def test_requests_of_another_size_style_or_checkpoint_are_drawn_apart(pipeline, portrait, png, change):
    plain, other = (
        pipeline.prepare(Params(**SMALL | changes), {"face_image": png(portrait)}) for changes in ({}, change)
    )
    assert pipeline.batch_key(plain) != pipeline.batch_key(other)
    if "checkpoint_model" not in change:  # another checkpoint has another queue
        assert plain.params.batch_hint != other.params.batch_hint
