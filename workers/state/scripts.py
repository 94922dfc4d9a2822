"""Loads the Lua scripts of `workers/state/lua`: one file per atomic step, whose first line names the files it requires.

The keys that Redis holds are listed at the head of `lua/common.lua`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from string import Template
from typing import Final

FINISHED_CHANNEL: Final = "facelight:finished"
"""Redis publishes the id of every request here as it becomes COMPLETED or FAILED."""
CANCELLED: Final = "The request was cancelled."
OVERDUE: Final = "The request has waited too long for a worker."
_FOLDER: Final = Path(__file__).with_name("lua")
_REQUIRES: Final = re.compile(r"-- requires ([\w, ]+)\n")


@cache
def load_script(step: str) -> str:
    """The text of `lua/<step>.lua`, behind that of the files that its first line requires."""
    text = Template((_FOLDER / f"{step}.lua").read_text()).safe_substitute(
        CANCELLED=CANCELLED, FINISHED_CHANNEL=FINISHED_CHANNEL
    )
    required = _REQUIRES.match(text)
    return "".join(load_script(name) for name in required[1].split(", ")) + text if required else text
