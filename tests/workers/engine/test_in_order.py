"""What threads bring in any order is dealt with in one order, by whoever is there, all at once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

import pytest

from workers.engine.in_order import InOrder


def test_the_order_is_that_of_the_numbers() -> None:
    steps: list[list[int]] = []
    in_order = InOrder[int](lambda group: steps.append(list(group)))
    numbers = [in_order.number() for _ in range(5)]
    for number in (2, 1):
        in_order.bring(number, number)
    assert steps == []
    in_order.bring(0, 0)
    assert steps == [[0, 1, 2]]
    in_order.bring(4, 4)
    in_order.bring(3, None)
    assert steps == [[0, 1, 2], [4]], "nothing came of number 3"
    assert numbers == list(range(5))


def test_many_threads() -> None:
    """No step is taken while another one is, and none is forgotten."""
    seen: list[int] = []
    inside = threading.Lock()

    def step(group: Sequence[int]) -> None:
        assert inside.acquire(blocking=False)
        time.sleep(0.0005)
        seen.extend(group)
        inside.release()

    in_order = InOrder[int](step)
    numbers = [in_order.number() for _ in range(400)]
    random.shuffle(numbers)

    def bring(share: Sequence[int]) -> None:
        for number in share:
            in_order.bring(number, number)

    threads = [threading.Thread(target=bring, args=[numbers[first::8]]) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == list(range(400))


def test_a_step_that_fails_does_not_stop_the_next() -> None:
    seen: list[int] = []

    def step(group: Sequence[int]) -> None:
        if 0 in group:
            raise ValueError("odd")
        seen.extend(group)

    in_order = InOrder[int](step)
    first, second = in_order.number(), in_order.number()
    with pytest.raises(ValueError, match="odd"):
        in_order.bring(first, first)
    in_order.bring(second, second)
    assert seen == [1]
