"""`recipe_check`: whether the weights that are drawn, not stored, come out here as they did there."""

from __future__ import annotations

from collections.abc import Iterator

from tests.parity.pulid.vector import Vector
from tests.parity.report import Row, exact


def check(vector: Vector) -> Iterator[Row]:
    """The first values of every tensor, exactly."""
    for key, golden in vector.tensors.items():
        kind, name, shape = key.split("|")
        draw = vector.recipe.weight if kind == "recipe" else vector.recipe.input
        drawn = draw(name, [int(side) for side in shape.split("x")])
        yield exact(key, drawn.flatten()[: len(golden)], golden)
