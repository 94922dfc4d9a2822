"""The script for Slurm, run as it stands, with stand-ins for `srun` and `scontrol` and a worker with fake models."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.deploy.files import REPOSITORY
from tests.faults.behaviour import Behaviour
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.members import Member
from tests.faults.processes.waiting import until
from workers.settings import WorkerSettings

SCRIPT = REPOSITORY / "deploy" / "slurm" / "worker.sbatch"
TEXT = SCRIPT.read_text(encoding="utf-8")
OPTIONS = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", TEXT, re.MULTILINE))

# As Slurm's: the task's exit status comes back, and a signal to srun itself forces the task's end.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
"$@" &
task=$!
echo $task > "$STAND_INS/task"
trap 'kill -KILL $task' TERM
while true; do
  wait $task; status=$?
  kill -0 $task 2>/dev/null || exit $status
done
"""
SCANCEL = """#!/bin/bash
[ "$*" = "--signal=TERM 40_2" ] && kill -TERM "$(cat "$STAND_INS/task")"
"""
SCONTROL = """#!/bin/bash
echo "$*" >> "$STAND_INS/scontrol.log"
[ "$1" != show ] || echo "   PreemptEligibleTime=2026-11-28T10:00:00 PreemptTime=${PREEMPT_TIME:-None}"
"""
WORKER = f"""#!/bin/bash
[ "$*" = "-m workers" ] || exit 3
echo "weights $FACELIGHT_WEIGHTS_DIR kernels $TRITON_CACHE_DIR" >> "$STAND_INS/starts.log"
cd {REPOSITORY} && exec {sys.executable} -m tests.faults.processes.fake_worker
"""


@dataclass
class Job:
    """One run of the script, as Slurm would have started it."""

    member: Member
    folder: Path

    @property
    def log(self) -> str:
        return self.member.log.read_text()

    @property
    def scontrol(self) -> list[str]:
        """The calls of scontrol."""
        file = self.folder / "scontrol.log"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def starts(self) -> list[str]:
        """Folders that each worker was given."""
        file = self.folder / "starts.log"
        return file.read_text().splitlines() if file.exists() else []

    def worker(self) -> psutil.Process | None:
        """The worker that runs now."""
        for child in psutil.Process(self.member.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                if "fake_worker" in " ".join(child.cmdline()):
                    return child
        return None

    def wait_for_worker(self) -> psutil.Process:
        """The worker, once it runs."""
        until(self.worker, "a worker", 30)
        worker = self.worker()
        assert worker
        return worker


@pytest.fixture(scope="module")
def house() -> Iterator[Cluster]:
    """A Redis and a gateway without workers."""
    with cluster(workers=0) as made:
        yield made


@pytest.fixture
def submit(house: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Job]]:
    """Starts the script; `variables` are for its environment."""
    jobs: list[Job] = []
    for folder in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):  # a model that was loaded here has set them
        monkeypatch.delenv(folder, raising=False)
    for name, text in {"srun": SRUN, "scancel": SCANCEL, "scontrol": SCONTROL, "worker": WORKER}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    wanted = "".join(f"{name}='{value}'\n" for name, value in house.environment.items())
    more = f"FACELIGHT_STORE={house.data_dir}/store\nFACELIGHT_PYTHON={tmp_path}/worker\nFACELIGHT_DEVICE=cpu\n"
    (tmp_path / "facelight.env").write_text(wanted + more)

    def start(**variables: str) -> Job:
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "STAND_INS": str(tmp_path),
            "FACELIGHT_ENV": str(tmp_path / "facelight.env"),
            "FACELIGHT_LOCAL_DIR": str(tmp_path / "local"),
            "SLURM_JOB_ID": "42",
            "SLURM_ARRAY_JOB_ID": "40",
            "SLURM_ARRAY_TASK_ID": "2",
            **variables,
        }
        job = Job(Member(f"job-{len(jobs)}", ["bash", str(SCRIPT)], environment, tmp_path), tmp_path)
        jobs.append(job)
        job.member.start()
        return job

    yield start
    for job in jobs:
        children = psutil.Process(job.member.pid).children(recursive=True) if job.member.alive else []
        job.member.end()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


@contextmanager
def busy(house: Cluster, job: Job) -> Iterator[None]:
    """A request of two seconds that a worker is at; it must be completed afterwards, in its first run."""
    behaviour = Behaviour(steps=20, step_ms=100)
    request = house.caller.accept(behaviour)
    until(lambda: house.runs.count(behaviour.label), "the request to begin", 30)
    yield
    house.settled(30)
    record = house.redis.client.hgetall(f"facelight:request:{request}")
    assert record[b"status"] == b"COMPLETED", job.log
    assert house.runs.count(behaviour.label) == 1


@pytest.mark.slow
def test_before_the_time_limit_the_job_is_finished_and_requeued(house: Cluster, submit: Callable[..., Job]) -> None:
    job = submit()
    with busy(house, job):
        job.member.send(signal.SIGUSR1)
    assert job.member.wait(30) == 0, job.log
    assert job.scontrol[-1] == "requeue 40_2"
    assert len(job.starts) == 1


@pytest.mark.slow
def test_a_preempted_job_is_requeued(house: Cluster, submit: Callable[..., Job]) -> None:
    """Slurm signals the step alone."""
    job = submit(PREEMPT_TIME="2026-11-28T12:00:00")
    with busy(house, job):
        job.wait_for_worker().terminate()
    assert job.member.wait(30) == 0, job.log
    assert job.scontrol == ["show job 40_2", "requeue 40_2"]


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["the step", "the step and the script"])
def test_a_cancelled_job_is_finished_and_not_requeued(house: Cluster, submit: Callable[..., Job], whole: bool) -> None:
    job = submit()
    with busy(house, job):
        job.wait_for_worker().terminate()
        if whole:
            job.member.send(signal.SIGTERM)
    assert job.member.wait(30) == 0, job.log
    assert job.scontrol == ["show job 40_2"]
    assert len(job.starts) == 1


def test_a_worker_that_dies_is_started_again(house: Cluster, submit: Callable[..., Job]) -> None:
    job = submit()
    first = job.wait_for_worker()
    first.kill()
    until(lambda: len(job.starts) == 2, "another worker", 30)
    assert "ended with status 137; the next one starts in 5 s" in job.log
    assert not job.scontrol


def test_it_ends_at_once_while_it_waits_to_start_a_worker_again(submit: Callable[..., Job]) -> None:
    job = submit()
    job.wait_for_worker().kill()
    until(lambda: "the next one starts" in job.log, "the pause", 30)
    job.member.send(signal.SIGUSR1)
    assert job.member.wait(3) == 0
    assert len(job.starts) == 1
    assert job.scontrol == ["requeue 40_2"]


def weights_of(job: Job) -> list[str]:
    """Folders of weights that workers were given."""
    return [line.split()[1] for line in job.starts]


def test_weights_are_copied_once_for_all_workers_of_a_node(submit: Callable[..., Job], tmp_path: Path) -> None:
    shared, local = tmp_path / "shared", tmp_path / "local" / "weights"
    shared.mkdir()
    (shared / "installed.toml").write_text("first")
    (shared / "unet.safetensors").write_bytes(b"1")
    jobs = [submit(FACELIGHT_WEIGHTS_DIR=str(shared), SLURM_ARRAY_TASK_ID=str(number)) for number in range(2)]
    for job in jobs:
        job.wait_for_worker()
    logs = "".join(job.log for job in jobs)
    assert (logs.count("copying the weights"), logs.count("the weights are in")) == (1, 1)
    assert weights_of(jobs[0]) == [str(local)] * 2
    assert (local / "unet.safetensors").read_bytes() == b"1"

    (shared / "installed.toml").write_text("second")
    (shared / "unet.safetensors").write_bytes(b"2")
    submit(FACELIGHT_WEIGHTS_DIR=str(shared)).wait_for_worker()
    assert (local / "unet.safetensors").read_bytes() == b"2"


def test_weights_that_cannot_be_copied_are_read_where_they_are(submit: Callable[..., Job], tmp_path: Path) -> None:
    shared, local = tmp_path / "shared", tmp_path / "local"
    shared.mkdir()
    (shared / "installed.toml").write_text("first")
    (tmp_path / "cp").write_text('#!/bin/bash\nmkdir -p "${@: -1}"; echo "No space left on device" >&2; exit 1\n')
    (tmp_path / "cp").chmod(0o755)
    job = submit(FACELIGHT_WEIGHTS_DIR=str(shared))
    job.wait_for_worker()
    assert f"are read from {shared}" in job.log
    assert weights_of(job) == [str(shared)]
    assert not (local / "weights.part").exists()


def test_kernels_are_kept_apart_by_the_kind_of_gpu(submit: Callable[..., Job], tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/bash\necho 'NVIDIA H100 80GB HBM3'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    job = submit()
    job.wait_for_worker()
    assert job.starts[0].split()[-1] == str(tmp_path / "local" / "kernels" / "NVIDIA-H100-80GB-HBM3" / "triton")
    assert (tmp_path / "local").stat().st_mode & 0o777 == 0o700


def test_what_is_missing_is_said(submit: Callable[..., Job], tmp_path: Path) -> None:
    job = submit(FACELIGHT_ENV="/nowhere/facelight.env")
    assert job.member.wait(10) == 1
    assert "cannot read /nowhere/facelight.env" in job.log
    (tmp_path / "facelight.env").write_text("FACELIGHT_REDIS_URL=redis://127.0.0.1:1/0\n")
    other = submit()
    assert other.member.wait(10) != 0
    assert "FACELIGHT_STORE: is needed in" in other.log


def test_the_time_that_is_left_exceeds_the_longest_job() -> None:
    match = re.fullmatch(r"B:USR1@(\d+)", OPTIONS["signal"])
    assert match and int(match[1]) > WorkerSettings.model_fields["job_timeout_s"].default + 10
    assert {"requeue", "array", "gres"} <= OPTIONS.keys()
