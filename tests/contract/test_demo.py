"""`facelight demo` against a live server: the pictures, and the sheet that shows them side by side."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.contact_sheet import Cell, contact_sheet
from cli.demo import SAMPLES, DemoError, Sample, heading, run
from cli.sample_photo import sample_photo
from tests.live_server import FACELIGHT, LiveServer, free_port

SMALL = {"width": 256, "height": 256, "output_format": "png"}
QUICK = {"ic-light": {**SMALL, "steps": 2, "highres_scale": 1}, "pulid-lightning": SMALL}
LIGHTS = ["none", "left", "right", "top", "bottom", "neon", "sunset"]


def quick(samples: tuple[Sample, ...] = SAMPLES) -> list[Sample]:
    """The same requests for small pictures in few steps."""
    return [replace(sample, params=sample.params | QUICK[sample.slug]) for sample in samples]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def lines(live: LiveServer, out: Path) -> list[str]:
    """What a whole run with cheap requests tells."""
    return list(run(live.url, None, out, quick()))


def test_every_image_is_saved_and_listed(lines: list[str], out: Path):
    names = ["pulid-lightning.png", *(f"ic-light-{light}.png" for light in LIGHTS)]
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "contact-sheet.png"])
    for name in names:
        assert Image.open(out / name).size == (256, 256)
        assert sum(f"{out / name} in " in line for line in lines) == 1
    assert lines[-1].endswith(str(out / "contact-sheet.png"))


def test_the_seven_lights_are_seven_pictures(lines: list[str], out: Path):
    pictures = {light: np.asarray(Image.open(out / f"ic-light-{light}.png")).astype(int) for light in LIGHTS}
    for one in LIGHTS:
        for other in LIGHTS:
            assert one == other or np.abs(pictures[one] - pictures[other]).mean() > 1


def test_the_sheet_shows_the_photo_and_then_the_pictures(lines: list[str], out: Path):
    relit = [sample for sample in SAMPLES if sample.slug == "ic-light"]
    cells = [Cell(Image.open(sample_photo("astronaut.png")), "Input", "the photo sent")]
    cells += [Cell(Image.open(out / f"{one.name}.png"), one.title, one.params["prompt"]) for one in relit]
    wanted = contact_sheet(heading("demo"), cells)
    assert np.array_equal(np.asarray(Image.open(out / "contact-sheet.png")), np.asarray(wanted))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("demo", "ic-light, demo weights"),
        ("real", "ic-light, real weights"),
        ("mixed", "demo and real"),
        (None, "weights unknown"),
    ],
)
def test_the_heading_names_the_kind_of_weights(kind: str | None, words: str):
    assert heading(kind).startswith("ic-light, ")
    assert words in heading(kind)


def test_the_samples_are_default_requests_of_all_light_sources():
    relit = [sample.params for sample in SAMPLES if sample.slug == "ic-light"]
    assert all(params.keys() == {"prompt", "light_source", "seed"} for params in relit)
    counts = Counter(params["light_source"] for params in relit)
    assert counts == {"None": 3, "Left Light": 1, "Right Light": 1, "Top Light": 1, "Bottom Light": 1}
    assert len({params["prompt"] for params in relit}) == 3
    assert len({params["seed"] for params in relit}) == 1, "only the light differs"


def test_an_error_has_the_servers_message(live: LiveServer, tmp_path: Path):
    (sample,) = quick(SAMPLES[:1])
    with pytest.raises(DemoError, match=f"{live.url} refused: .*width"):
        list(run(live.url, None, tmp_path, [replace(sample, params={"width": 7})]))
    assert list(tmp_path.iterdir()) == []


def test_the_command_without_a_server_fails_with_a_hint(tmp_path: Path):
    environment = {"FACELIGHT_PORT": str(free_port()), "FACELIGHT_DATA_DIR": str(tmp_path)}
    result = subprocess.run(
        [FACELIGHT, "demo", "--out", tmp_path / "out"], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "does not answer" in result.stderr
    assert "make run" in result.stderr
