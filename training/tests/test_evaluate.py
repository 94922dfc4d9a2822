"""Evaluation of built weights, in a shortened run."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.weights.installed import WeightSet
from training.data.photos import load_photo
from training.evaluation import evaluate
from training.evaluation.evaluate import NAMED, Model, main, sphere
from training.evaluation.goals import REQUEST_S, Figures

SMALL = {"width": 256, "height": 256, "steps": 2, "highres_scale": 1, "seed": 1}


@pytest.fixture(scope="module")
def model(demo_weights: Path) -> Model:
    return Model(WeightSet.open(demo_weights, "ic-light"))


@pytest.fixture(scope="module")
def quick_run(demo_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Output and figures of a shortened run."""
    file = tmp_path_factory.mktemp("figures") / "figures.json"
    with redirect_stdout(io.StringIO()) as printed:
        main([str(demo_weights), "--quick", "--json", str(file)])
    return printed.getvalue(), json.loads(file.read_text())


@pytest.mark.slow
def test_a_quick_run_measures_everything(quick_run: tuple[str, dict[str, Any]]):
    _, found = quick_run
    assert [(one["picture"], one["axis"]) for one in found["light"]] == [
        ("clock_motion", "left/right"),
        ("clock_motion", "top/bottom"),
    ]
    assert all(one["whole"] > 0 and 0 <= one["mask"] <= 1 for one in found["light"])
    assert [one["words"] for one in found["words"]] == sorted(NAMED)
    assert len({(one["a"], one["b"]) for one in found["words"]}) == len(NAMED), "all words give different pictures"
    assert 5 < found["round_trips"][0]["psnr_db"] < 60
    assert [one["picture"] for one in found["noise"]] == ["sphere", "clock_motion"]
    assert found["request_s"] > 0
    assert found["shortened"]


@pytest.mark.slow
def test_a_shortened_run_is_marked_as_such(quick_run: tuple[str, dict[str, Any]]):
    text, _ = quick_run
    assert len(text.splitlines()) == 14
    assert "of 13 goals met in a shortened run" in text


def test_a_full_run_that_misses_a_goal_exits_with_1(monkeypatch: pytest.MonkeyPatch):
    reached = Figures(light=[], round_trips=[], words=[], noise=[], request_s=REQUEST_S, shortened=False)
    monkeypatch.setattr(evaluate, "measure", lambda *_: reached)
    main(["folder"])
    monkeypatch.setattr(evaluate, "measure", lambda *_: replace(reached, request_s=REQUEST_S + 1))
    with pytest.raises(SystemExit) as ending:
        main(["folder"])
    assert ending.value.code == 1


def test_one_picture_is_generated_for_each_request(model: Model):
    requests = [{"prompt": "soft light", "light_source": source, **SMALL} for source in ("Left Light", "Right Light")]
    both = model.relight(load_photo("coffee"), requests)
    assert [picture.shape for picture in both] == [(256, 256, 3)] * 2
    assert np.abs(both[0].astype(int) - both[1]).mean() > 1
    (alone,) = model.relight(load_photo("coffee"), requests[1:])
    assert np.abs(both[1].astype(int) - alone).max() <= 2, "batching changes rounding only"


def test_the_mask_is_cut_as_the_picture_is(model: Model):
    mask = model.mask(load_photo("rocket"), 128, 160)
    assert (mask.shape, mask.dtype) == ((160, 128), np.bool_)


def test_the_round_trip_starts_from_the_photo_as_it_is_cut(model: Model):
    photo, decoded = model.round_trip(load_photo("clock_motion"))
    assert photo.shape == decoded.shape == (640, 512, 3)
    # 400 x 300 px covers 512 x 640 px when scaled to 853 x 640, of which the middle 60 % are kept.
    middle = load_photo("clock_motion")[:, 80:320]
    assert photo.mean() == pytest.approx(middle.mean(), abs=1)


def test_the_sphere_has_a_plain_wall_around_it():
    picture = sphere(256, 320)
    assert np.all(picture[:70] == 160) and np.all(picture[:, :50] == 160)
    assert tuple(picture[160, 128]) == (235, 140, 60)
    assert picture[160, 60].sum() < picture[160, 128].sum(), "darker where it faces the camera less"
