"""Tools of npm and PyPI that only slow tests need: installed by exact versions and hashes, and kept in `var`."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest

from tests.authority import environment_for_the_network

_KEPT = Path(__file__).parents[1] / "var" / "test"
_NPMRC = Path(__file__).with_name("npmrc")
_NPM = ("npm", "ci", "--silent")
_PIP = (
    *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "0"),
    *("--no-compile", "--no-deps", "--require-hashes", "--upgrade", "--target", "python", "-r", "requirements.txt"),
)
_INSTALL_S = 120


def packages(locks: Path) -> Path:
    """Folder with the packages that the lock files in the folder `locks` name, in `node_modules` and `python`.

    Skips the test where they can neither be found nor installed.
    """
    folder, reason = _installed(locks)
    if reason:
        pytest.skip(reason)
    return folder


@cache
def _installed(locks: Path) -> tuple[Path, str]:
    """The folder, and why it is not filled."""
    files = sorted(file for file in locks.iterdir() if file.suffix in (".json", ".txt"))
    digest = sha256(b"".join(file.read_bytes() for file in (*files, _NPMRC))).hexdigest()[:12]
    folder = _KEPT / f"{locks.name}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "installed").exists():
            return folder, ""
        if not shutil.which("npm"):
            return folder, "npm is not installed"
        for file in files:
            shutil.copy(file, folder)
        shutil.copy(_NPMRC, folder / ".npmrc")
        commands: list[Sequence[str]] = [_NPM, *([_PIP] if (folder / "requirements.txt").exists() else [])]
        for command in commands:
            try:
                result = subprocess.run(
                    command,
                    cwd=folder,
                    env=environment_for_the_network(),
                    capture_output=True,
                    text=True,
                    timeout=_INSTALL_S,
                )
            except subprocess.TimeoutExpired:
                return folder, f"{' '.join(command[:3])}: not done within {_INSTALL_S} s"
            if result.returncode:
                return folder, f"{' '.join(command[:3])}: {(result.stderr or result.stdout).strip()[-200:]}"
        (folder / "installed").touch()
    return folder, ""
