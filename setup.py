"""The one build step that pyproject.toml cannot express: `weights.lock`, at the root of the tree, is packaged."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

LOCK = "weights.lock"


class BuildPy(build_py):
    """Adds a copy of the lock to the package `models.weights`, where an installation without the tree looks for it."""

    def run(self) -> None:
        """Build the packages, and copy the lock unless they are installed as links into the tree."""
        super().run()
        if not self.editable_mode:
            self.copy_file(LOCK, self._packaged_lock)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Files that `run` writes."""
        return [*super().get_outputs(include_bytecode), *([] if self.editable_mode else [self._packaged_lock])]

    @property
    def _packaged_lock(self) -> str:
        return str(Path(self.build_lib, "models", "weights", LOCK))


setup(cmdclass={"build_py": BuildPy})
