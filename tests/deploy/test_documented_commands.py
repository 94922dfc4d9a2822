"""What docs/deploy.md tells operators to type is typed by `make engine-test`, or said not to be."""

from __future__ import annotations

import ast
import inspect
import re

from tests.deploy.files import REPOSITORY
from tests.engine import composition, steps

DOCUMENT = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^(\*Not run: .+\*\n\n)?```console\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    """Commands of a block, without prompts and comments, continued lines joined."""
    joined = re.sub(r" \\\n\s+", " ", block)
    typed = [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]
    return [re.sub(r"\s+# .*", "", line) for line in typed]


def test_commands_are_typed_by_the_engine_test_unless_said_otherwise() -> None:
    told = [command for mark, block in BLOCKS if not mark for command in commands(block)]
    trees = [ast.parse(inspect.getsource(module)) for module in (composition, steps)]
    typed = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert len(told) > 15
    assert set(told) - typed - {*steps.BACKUP, steps.FIRST_PICTURE} == set()
