"""Every PuLID vector of the repository, through the project's own modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.parity.pulid import KINDS
from tests.parity.pulid.vector import Vector

GOLDEN = Path(__file__).parents[1] / "golden" / "pulid"
SLOW = {"eva_real", "id_former_v11_real"}
STEMS = sorted({file.stem for file in GOLDEN.iterdir()})


@pytest.mark.parametrize("stem", [pytest.param(stem, marks=pytest.mark.slow if stem in SLOW else ()) for stem in STEMS])
def test_it_is_as_the_original(stem: str):
    rows = list(KINDS[stem](Vector(GOLDEN / stem, torch.device("cpu"))))
    assert rows
    assert not [row for row in rows if not row.passed]
