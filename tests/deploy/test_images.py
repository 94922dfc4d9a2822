"""What the images are made of; that they build and run, an engine has to show."""

from __future__ import annotations

import re

import pytest

from tests.deploy.files import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
KEPT = {
    line[1:] for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
}
COPIED = {
    source
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for source in sources.split()
}


def test_what_is_copied_exists_and_reaches_the_engine() -> None:
    assert {source for source in COPIED if not (REPOSITORY / source).exists()} == set()
    assert COPIED == KEPT


def test_the_images_hold_the_product_alone() -> None:
    folders = {source for source in COPIED if (REPOSITORY / source).is_dir()}
    assert folders == {"cli", "models", "server", "workers"}


def test_the_gateway_image_has_no_weights() -> None:
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL))
    assert "rm -r /app/models/demo/trained" in stages["gateway-project"]
    assert (REPOSITORY / "models" / "demo" / "trained").is_dir()
    assert re.findall(r"COPY --from=(\S+)", stages["gateway"]) == ["gateway-project"] * 2


@pytest.mark.parametrize("image", ["gateway", "worker"])
def test_packages_are_a_layer_of_their_own(image: str) -> None:
    """Else a change of one line would add them to the image once more: gigabytes."""
    stages = dict(re.findall(r"^FROM (\S+ AS \S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL))
    packages = re.findall(r"^COPY (.+)$", stages[f"base AS {image}-packages"], re.MULTILINE)
    assert packages == [f"deploy/{image}.lock /opt/"]
    assert f"{image}-packages AS {image}" in stages


def test_the_base_image_is_pinned_by_digest() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=\S+:\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
