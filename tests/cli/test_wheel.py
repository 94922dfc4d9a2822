"""A wheel built from the tree serves without the tree: installed into a fresh environment, run from another folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest
from skimage import data

from tests.live_server import live_server, png

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("cli", "models", "server", "workers")
QUICK = {"prompt": "cat", "width": "256", "height": "256", "steps": "2", "highres_scale": "1", "seed": "42"}


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command that succeeds."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    """Neither the tree nor the operator's settings reach what is started here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("PYTHON", "FACELIGHT_"))]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: building writes into the tree."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for path in REPOSITORY.iterdir():
        if path.is_file() and path.name != ".env":
            shutil.copy(path, tree)
    for name in (*PACKAGES, "training", "bench", "tests"):
        shutil.copytree(REPOSITORY / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out]
    run(sys.executable, "-m", "pip", "wheel", *options, tree, cwd=out)
    (built,) = out.glob("facelight-*.whl")
    return built


@pytest.fixture(scope="module")
def facelight(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment that holds the wheel, and sees the dependencies of this one."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    # A folder that a .pth file names is searched, but its own .pth files are not read: the editable install stays out.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    options = ["--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    run(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", *options, wheel, cwd=folder)
    return folder / "bin" / "facelight"


def test_the_wheel_holds_the_product_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as opened:
        names = set(opened.namelist())
        assert opened.read("models/weights/weights.lock") == (REPOSITORY / "weights.lock").read_bytes()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {*PACKAGES, *(top for top in tops if top.endswith(".dist-info"))}
    shipped = {
        path.relative_to(REPOSITORY).as_posix()
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped <= names, "every file of the packages is shipped: code, scripts, templates, configurations, weights"
    assert {name.rpartition("/")[2] for name in names if "/licenses/" in name} == {"LICENSE", "THIRD-PARTY-NOTICES.md"}


def test_weights_are_listed_from_the_packaged_lock(facelight: Path, tmp_path: Path) -> None:
    assert "realistic-vision-v5.1" in run(facelight, "weights", "list", cwd=tmp_path)


def test_the_code_that_runs_is_the_wheels(facelight: Path, tmp_path: Path) -> None:
    found = run(facelight.with_name("python"), "-c", "import models; print(models.__file__)", cwd=tmp_path)
    assert Path(found).is_relative_to(facelight.parents[1])


@pytest.mark.slow
def test_an_installation_serves_ic_light(facelight: Path, tmp_path: Path) -> None:
    with live_server(tmp_path, None, command=facelight, models="ic-light") as server:
        server.wait_until_ready("ic-light")
        photo = {"subject_image": png(data.chelsea())}
        response = httpx.post(f"{server.url}/v1/ic-light", data=QUICK, files=photo, timeout=120)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("image/")
