"""The memory plans of docs/gpu.md: parts as large as the networks, and cards that serve or refuse what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from bench.full_size import ic_light, pulid_lightning
from models.model import MemoryNeed
from workers.engine.memory import shortage

GUIDE = Path(__file__).parents[2] / "docs" / "gpu.md"
GPU = torch.device("cuda")
CONTEXT = 0.6e9
"""Bytes that CUDA and its libraries take before anything is loaded."""
GIB = 2**30


def parts() -> dict[str, tuple[float, float]]:
    """Gigabytes of each part, of pulid-lightning and of ic-light, as the guide has them."""
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]*) ?\| ([\d.]*) ?\|$", GUIDE.read_text(), re.MULTILINE)
    return {name: (float(portrait or 0), float(scene or 0)) for name, portrait, scene in rows}


def needs(model: int) -> list[MemoryNeed]:
    """What the worker is told of one model: the parts above."""
    return [MemoryNeed(name, device=round(sizes[model] * 1e9)) for name, sizes in parts().items()]


def gigabytes(network: torch.nn.Module, bytes_each: int) -> float:
    return sum(weight.numel() for weight in network.state_dict().values()) * bytes_each / 1e9


def test_the_sums_are_those_of_the_parts() -> None:
    portrait, scene = re.findall(
        r"^\| \*\*together\*\* \| \*\*([\d.]+)\*\* \| \*\*([\d.]+)\*\* \|$", GUIDE.read_text(), re.M
    )[0]
    sums = [sum(sizes[model] for sizes in parts().values()) for model in (0, 1)]
    assert sums == pytest.approx([float(portrait), float(scene)], abs=0.02)


@pytest.mark.parametrize(
    ("card", "portraits", "both"),
    [(8, False, False), (12, True, False), (15, True, True), (16, True, True), (24, True, True)],
)
def test_cards_serve_what_the_plans_say(
    card: int, portraits: bool, both: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the check before loading; of 12 GB and of a T4, which pass it, the guide says what to expect."""
    free = card * GIB - CONTEXT
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (round(free), card * GIB))
    assert shortage(needs(1), GPU, 10**12) == ""
    assert (shortage(needs(0), GPU, 10**12) == "") is portraits
    free -= sum(need.device for need in needs(1))  # ic-light is loaded first
    assert (shortage(needs(0), GPU, 10**12) == "") is both


def test_the_guide_quotes_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8_010_000_000, 8 * GIB))
    said = shortage(
        [MemoryNeed("face_analysis", device=280_000_000), MemoryNeed("rest", device=8_400_000_000)], GPU, 10**12
    )
    assert said.partition(", rest")[0] in GUIDE.read_text()


@pytest.mark.slow
def test_parts_are_as_large_as_the_networks() -> None:
    with torch.device("meta"):
        unet = pulid_lightning.unet()
        found = {
            "UNet": (gigabytes(unet, 2), gigabytes(ic_light.unet(), 2)),
            "text encoders": (
                gigabytes(pulid_lightning.clip_l(), 2) + gigabytes(pulid_lightning.clip_g(), 2),
                gigabytes(ic_light.text_encoder(), 2),
            ),
            "VAE": (gigabytes(pulid_lightning.vae(), 2), gigabytes(ic_light.vae(), 2)),
            "face: EVA-CLIP": (gigabytes(pulid_lightning.vision_tower(), 2), 0),
            "face: parser and ID encoder": (
                gigabytes(pulid_lightning.face_parser(), 4) + gigabytes(pulid_lightning.id_encoder(), 2),
                0,
            ),
            "matting": (0, gigabytes(ic_light.rmbg(), 4)),
        }
    keys = [weight for name, weight in unet.named_parameters() if name.endswith("attn2.to_k.weight")]
    found["identity's projections"] = (sum(weight.numel() for weight in keys) * 2 * 2 / 1e9, 0)
    told = parts()
    assert found.keys() == told.keys() - {"face: detector and recogniser"}, "those two are counted with their files"
    for name, sizes in found.items():
        assert sizes == pytest.approx(told[name], abs=0.015), name
