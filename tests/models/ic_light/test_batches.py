"""How many pictures go together."""

from __future__ import annotations

import pytest

from models.ic_light.batches import max_batch


@pytest.mark.parametrize(
    ("size", "together"), [((768, 960), 12), ((1536, 1920), 3), ((3072, 3072), 1), ((4000, 4000), 1)]
)
def test_the_largest_picture_sets_the_measure(size: tuple[int, int], together: int):
    assert max_batch(*size) == together
