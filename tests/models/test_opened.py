"""The watch that other tests rely on: it misses no way of opening a file, and counts nothing else."""

from __future__ import annotations

import mmap
from pathlib import Path

import cv2
import numpy as np

from tests.models.opened import opened


def test_it_sees_reads_maps_and_native_code_and_nothing_else(tmp_path: Path):
    (tmp_path / "inner").mkdir()
    for name in ("read", "mapped", "inner/native.png", "looked at", "later"):
        (tmp_path / name).write_bytes(b"content")
    cv2.imwrite(str(tmp_path / "inner/native.png"), np.zeros((4, 4), np.uint8))
    with opened(tmp_path) as files:
        (tmp_path / "read").read_bytes()
        with (tmp_path / "mapped").open("rb") as file:
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).close()
        cv2.imread(str(tmp_path / "inner/native.png"))
        assert (tmp_path / "looked at").stat().st_size
        assert len(list(tmp_path.rglob("*"))) == 6
    (tmp_path / "later").read_bytes()
    assert files == {"read", "mapped", "inner/native.png"}
