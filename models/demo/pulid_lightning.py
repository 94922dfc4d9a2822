"""Build the demo weights of `pulid-lightning`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from models.demo.face_detector import write_detector
from models.demo.face_recogniser import write_recogniser
from models.demo.identity import write_adapter, write_eva_clip, write_face_parser
from models.demo.sdxl import write_checkpoint, write_config
from models.demo.trained_files import PORTRAIT_ARTISTIC, PORTRAIT_REALISTIC, Trained
from models.weights.installed import InstalledWeight, describe

_SLUG: Final = "pulid-lightning"
_LICENCE: Final = "facelight demo"
_PATHS: Final = {
    "sdxl_config": "sdxl/config",
    "sdxl_checkpoint_default": "sdxl/default.safetensors",
    "sdxl_checkpoint_artistic": "sdxl/artistic.safetensors",
    "sdxl_checkpoint_realistic": "sdxl/realistic.safetensors",
    "pulid_adapter": "pulid/adapter.safetensors",
    "eva_clip": "pulid/eva_clip.safetensors",
    "face_parser": "face/parsing_bisenet.safetensors",
    "face_analysis": "face/analysis",
}
_TUNED: Final = {
    "sdxl_checkpoint_default": (),
    "sdxl_checkpoint_artistic": (PORTRAIT_ARTISTIC,),
    "sdxl_checkpoint_realistic": (PORTRAIT_REALISTIC,),
}
"""The trained files in which a checkpoint differs from the default."""


def build(root: Path, trained: Trained) -> list[InstalledWeight]:
    """Write all weights of the endpoint below `root`; the same bytes each time on one machine.

    Raises `WeightsError` if a trained file is not the one that its lock names.
    """
    paths = {role: root / path for role, path in _PATHS.items()}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    write_config(paths["sdxl_config"], trained)
    for role, tuned in _TUNED.items():
        write_checkpoint(paths[role], trained, tuned)
    write_adapter(paths["pulid_adapter"], trained)
    write_eva_clip(paths["eva_clip"])
    write_face_parser(paths["face_parser"])
    paths["face_analysis"].mkdir()
    write_detector(paths["face_analysis"] / "scrfd_10g_bnkps.onnx")
    write_recogniser(paths["face_analysis"] / "glintr100.onnx")
    return [describe(root, role, path, [_SLUG], _licence(role)) for role, path in _PATHS.items()]


def _licence(role: str) -> str:
    # The detector's numbers are those of OpenCV's cascade.
    return f"{_LICENCE}; detector: Apache-2.0 (OpenCV)" if role == "face_analysis" else _LICENCE
