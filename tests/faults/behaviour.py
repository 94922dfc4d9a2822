"""What a request asks the fake pipelines of these tests to do. It travels in the prompt."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import Literal

Ending = Literal["finish", "segfault", "hang", "out_of_memory", "device_error"]


@dataclass(frozen=True)
class Behaviour:
    """Some steps of some length, then an end; `label` tells the requests of a test apart."""

    steps: int = 1
    step_ms: float = 0.0
    ending: Ending = "finish"
    """What comes after the last step."""
    on_runs: int | None = None
    """The request ends like that only on its first so many runs, and finishes on later ones; None: always."""
    label: str = field(default_factory=lambda: secrets.token_hex(8))

    def to_prompt(self) -> str:
        """The prompt that asks for it."""
        return json.dumps(asdict(self))

    @property
    def seconds(self) -> float:
        """How long a run takes."""
        return self.steps * self.step_ms / 1000

    @classmethod
    def from_prompt(cls, prompt: str) -> Behaviour:
        """Read it again; every other prompt asks for one step that takes no time."""
        return cls(**json.loads(prompt)) if prompt.startswith("{") else cls(label=prompt)
