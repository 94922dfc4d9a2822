"""Items that threads submit in any order are committed in the reserved order, all that are ready at once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

import pytest

from workers.engine.publish import OrderedCommitter


def test_items_are_committed_in_the_reserved_order() -> None:
    commits: list[list[int]] = []
    committer = OrderedCommitter[int](lambda group: commits.append(list(group)))
    positions = [committer.reserve() for _ in range(5)]
    for position in (2, 1):
        committer.submit(position, position)
    assert commits == []
    committer.submit(0, 0)
    assert commits == [[0, 1, 2]]
    committer.submit(4, 4)
    committer.submit(3, None)
    assert commits == [[0, 1, 2], [4]], "position 3 was skipped"
    assert positions == list(range(5))


def test_many_threads() -> None:
    """Commits never overlap, and no item is lost."""
    seen: list[int] = []
    inside = threading.Lock()

    def commit(group: Sequence[int]) -> None:
        assert inside.acquire(blocking=False)
        time.sleep(0.0005)
        seen.extend(group)
        inside.release()

    committer = OrderedCommitter[int](commit)
    positions = [committer.reserve() for _ in range(400)]
    random.shuffle(positions)

    def submit_all(share: Sequence[int]) -> None:
        for position in share:
            committer.submit(position, position)

    threads = [threading.Thread(target=submit_all, args=[positions[first::8]]) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == list(range(400))


def test_a_commit_that_fails_does_not_stop_the_next() -> None:
    seen: list[int] = []

    def commit(group: Sequence[int]) -> None:
        if 0 in group:
            raise ValueError("odd")
        seen.extend(group)

    committer = OrderedCommitter[int](commit)
    first, second = committer.reserve(), committer.reserve()
    with pytest.raises(ValueError, match="odd"):
        committer.submit(first, first)
    committer.submit(second, second)
    assert seen == [1]
