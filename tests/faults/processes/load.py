"""Steady traffic from a few threads while something happens to the servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.processes.caller import Answer

Call = Callable[[], Answer]


@dataclass
class SteadyLoad:
    """Makes `rate` calls per second for as long as the block lasts, from so many threads.

    Every call has its time. If all threads wait for answers then, it is made later, and counts as slow by as much.
    """

    call: Call
    rate: float
    threads: int = 4
    keep: bool = True
    """Whether the answers are kept: not in a test of hours."""
    answers: list[tuple[float, Answer]] = field(default_factory=list)
    """When the call should have been made, by the monotonic clock, and what came."""
    _ended: threading.Event = field(default_factory=threading.Event)
    crew: list[threading.Thread] = field(default_factory=list)
    """The threads."""
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> SteadyLoad:
        self._next = time.monotonic()
        self.crew = [threading.Thread(target=self._run, daemon=True) for _ in range(self.threads)]
        for thread in self.crew:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self.crew:
            thread.join()

    def codes(self) -> dict[int, int]:
        """How often each status code came."""
        found = [answer.code for _, answer in self.answers]
        return {code: found.count(code) for code in sorted(set(found))}

    def latencies(self) -> list[float]:
        """Seconds from the time each call was due to its answer."""
        return [max(0.0, answer.began - due) + answer.seconds for due, answer in self.answers]

    def _run(self) -> None:
        while not self._ended.is_set():
            due = self._take_turn()
            if self._ended.wait(max(0.0, due - time.monotonic())):
                return
            answer = self.call()
            if self.keep:
                self.answers.append((due, answer))

    def _take_turn(self) -> float:
        with self._lock:
            due, self._next = self._next, self._next + 1 / self.rate
            return due


def outages(answers: list[tuple[float, Answer]]) -> list[str]:
    """What is wrong with answers in times of trouble: only 200, and 503 that says when to come back, are right."""
    return [
        f"a call was answered with {answer.code} {answer.body or answer.broke}"
        for _, answer in answers
        if answer.code != 200 and not (answer.code == 503 and "retry-after" in answer.headers)
    ]
