"""The background extension through live servers: with its weights, and without."""

from __future__ import annotations

from pathlib import Path

import pytest
from skimage import data

from models.weights.installed import INSTALLED_NAME, read_installed, write_installed
from tests.contract.pictures import distance, images_of, post, size
from tests.live_server import LiveServer, live_server, png

SUBJECT, WALL, ROOM = (png(picture) for picture in (data.chelsea(), data.brick(), data.coffee()))
SIZE = {"width": 256, "height": 320, "highres_scale": 1}
QUICK = {**SIZE, "prompt": "cat", "seed": 42, "steps": 2, "output_format": "png"}


def test_the_background_changes_the_picture(live: LiveServer):
    def picture(**images: bytes) -> bytes:
        (file,) = images_of(post(live, "ic-light", {"subject_image": SUBJECT, **images}, **QUICK))
        return file

    alone, before_wall, before_room = picture(), picture(background_image=WALL), picture(background_image=ROOM)
    assert size(before_wall) == (256, 320)
    assert distance(alone, before_wall) > 1
    assert distance(before_wall, before_room) > 1
    assert picture(background_image=WALL) == before_wall


@pytest.fixture(scope="module")
def without_weights(demo_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo weights less the role that backgrounds need."""
    folder = tmp_path_factory.mktemp("without")
    roles = [role for role in read_installed(demo_weights).weights if role.role != "ic_light_fbc"]
    for entry in demo_weights.iterdir():
        if entry.name != INSTALLED_NAME:
            (folder / entry.name).symlink_to(entry)
    write_installed(folder, roles, "demo")
    return folder


@pytest.mark.slow
def test_without_its_weights_a_background_is_400(without_weights: Path, tmp_path: Path):
    with live_server(tmp_path, without_weights) as server:
        server.wait_until_ready()
        answer = post(server, "ic-light", {"subject_image": SUBJECT, "background_image": WALL}, **QUICK)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("background_image: cannot be served")
        assert images_of(post(server, "ic-light", {"subject_image": SUBJECT}, **QUICK))
