"""`facelight weights` as an operator runs it, against a hub of our own that has the whole demo twin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.weights.hashes import HashCache
from models.weights.installed import read_installed
from models.weights.lock import Lock, read_lock
from models.weights.weight_set import WeightSet
from tests.models.weights.hub import Fault, Hub
from tests.models.weights.twin import publish
from workers.loading import LoadedModels
from workers.presence import ModelState
from workers.settings import WorkerSettings


@dataclass(frozen=True)
class Operator:
    """Someone with a data folder, a lock and a hub."""

    data: Path
    lock: Path
    hub: Hub

    @property
    def weights(self) -> Path:
        return self.data / "weights" / "real"

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith(("FACELIGHT_", "HF_"))},
            "FACELIGHT_DATA_DIR": str(self.data),
            "FACELIGHT_WEIGHTS_LOCK": str(self.lock),
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.data / "hf"),
            **extra,
        }

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "workers.weights_command", *arguments],
            env=self.environment(extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, fails: bool = False, **extra: str) -> str:
        """Run to the end; returns everything that was written."""
        process = self.start(*arguments, **extra)
        out, err = process.communicate(timeout=120)
        assert process.returncode == (1 if fails else 0), out + err
        assert "Traceback" not in err
        return out + err


def flip(path: Path, at: int) -> None:
    """Change one bit, and nothing else that a directory tells."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture(scope="module")
def published(demo_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Path]]:
    with Hub() as hub:
        lock = tmp_path_factory.mktemp("lock") / "weights.lock"
        publish(hub, demo_weights, lock)
        yield hub, lock


@pytest.fixture(scope="module")
def fetched(published: tuple[Hub, Path], tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """An operator who has fetched everything."""
    hub, lock = published
    operator = Operator(tmp_path_factory.mktemp("fetched"), lock, hub)
    said = operator.run("fetch", "--accept-licence", "--use", "ic-light-fbc")
    assert "all verified" in said
    return operator


@pytest.fixture
def operator(published: tuple[Hub, Path], tmp_path: Path) -> Operator:
    """One who has fetched nothing yet."""
    hub, lock = published
    hub.forget()
    own = tmp_path / "weights.lock"
    own.write_text(lock.read_text())
    return Operator(tmp_path / "var", own, hub)


def test_probe(fetched: Operator):
    print(fetched.run("list"))
    print(fetched.run("verify"))
    print(fetched.run("fetch"))
    print((fetched.weights / "installed.toml").read_text()[:3000])
    print(list(fetched.weights.rglob("*")))
