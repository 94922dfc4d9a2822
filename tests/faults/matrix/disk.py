"""A result store without room."""

from __future__ import annotations

import errno
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.behaviour import Behaviour
from tests.faults.finding import Fault, Finding, unless
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.waiting import until

_SIZE = "2m"


def full_disk(full: bool, finding: Finding) -> None:
    """The disk fills up while a job runs, and is freed again."""
    with small_disk() as folder, cluster(workers=1, keep=False, store=folder / "store") as made:
        for _ in range(10 if full else 2):
            _fill_and_free(made, folder, finding)
        drafts = list((folder / "store").rglob(".*"))
        finding.blame(*made.audit(), *[f"a draft was left: {draft.name}" for draft in drafts])
        finding.blame(*[f"{member.name} ended" for member in (*made.workers, *made.gateways) if not member.alive])
    finding.figure = (
        "the running request FAILED with a message, submissions got 503, requests completed once there was space; "
        "0 crashes"
    )


def _fill_and_free(made: Cluster, folder: Path, finding: Finding) -> None:
    job = Behaviour(steps=10, step_ms=100)
    request_id = made.caller.accept(job)
    until(lambda: made.runs.count(job.label), "the job to begin")
    filler = _fill(folder)
    refused = made.caller.submit(Behaviour())
    made.settled()
    filler.unlink()
    state, words = made.caller.status(request_id), made.caller.result(request_id).get("error", "")
    later = made.caller.accept(Behaviour())
    made.settled()
    finding.trial(unless(state == "FAILED" and "store" in words, f"the running request is {state}: {words}"))
    finding.blame(unless(refused.code == 503 and "retry-after" in refused.headers, f"a submission got {refused}"))
    finding.blame(unless(made.caller.status(later) == "COMPLETED", "a request after it did not complete"))


def _fill(folder: Path) -> Path:
    """Write until nothing more fits; returns the file to remove."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return filler


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system in memory of 2 MB; raises `CalledProcessError` where mounting one is not allowed."""
    with tempfile.TemporaryDirectory(prefix="facelight-disk-") as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", folder]
        subprocess.run(command, check=True, capture_output=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def may_mount() -> bool:
    """Whether this process may mount file systems."""
    try:
        with small_disk():
            return True
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False


FAULTS = (
    Fault(
        "F8",
        "the disk of the result store is full",
        "a file system of 2 MB filled to the last byte while a job runs, then freed",
        "FAILED with a reason; submissions 503; 0 crashes; recovers when freed",
        full_disk,
    ),
)
