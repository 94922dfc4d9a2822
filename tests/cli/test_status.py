"""`facelight status` and `facelight queue`, on the records of a real Redis."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from redis import Redis

from models.catalog import MODELS
from tests.cli.facelight import Shell, shell
from tests.live_server import FACELIGHT
from tests.workers.state.support import claim, complete
from workers.state.connection import connect
from workers.state.keys import Keys
from workers.state.record import Status
from workers.state.records import Records
from workers.state.registry import ModelReport, ModelState, WorkerRegistry, WorkerReport
from workers.state.scripts import CANCELLED
from workers.store.base import Store
from workers.store.open import open_store


@pytest.fixture
def facelight(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return shell(monkeypatch, redis_url=redis_url, data_dir=tmp_path)


@pytest.fixture
def redis(redis_url: str) -> Redis:
    return connect(redis_url)


@pytest.fixture
def records(redis: Redis) -> Records:
    return Records(redis, 3600, 86_400)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def enqueue(records: Records, request_id: str, slug: str = "ic-light", owner: str = "", **params: object) -> None:
    records.create(request_id, slug, MODELS[slug].params.variants[0], owner, params)


def report(redis: Redis, name: str, *requests: str, **models: ModelReport) -> None:
    named = {slug.replace("_", "-"): model for slug, model in models.items()}
    WorkerRegistry(redis, 10).heartbeat(WorkerReport(name, "cuda:0", named, requests))


READY = ModelReport(ModelState.READY, "real", variants=("foreground",), execution="captured")


def test_queues_and_workers_in_words(facelight: Shell, records: Records, redis: Redis) -> None:
    for number in range(3):
        enqueue(records, f"r{number}")
    running = claim(records, "ic-light", "foreground", "gpu-1")
    assert running is not None
    records.report(running, 7, 50)
    fallen = ModelReport(ModelState.READY, "real", execution="eager", fallback="predict_noise: no C compiler")
    broken = ModelReport(ModelState.FAILED, detail="cannot load: unet.safetensors: missing")
    report(redis, "gpu-1", "r0", ic_light=READY, pulid_lightning=fallen)
    report(redis, "gpu-2", ic_light=broken)
    lines = facelight("status").stdout.splitlines()
    assert lines[0].split() == ["MODEL", "WAITING", "OLDEST", "RUNNING"]
    assert lines[1].split() == ["pulid-lightning", "0", "-", "0"]
    assert re.fullmatch(r"ic-light +2 +\d\.\d s +1", lines[2])
    assert lines[4].split() == ["WORKER", "DEVICE", "MODEL", "STATE", "EXECUTION", "WEIGHTS", "HOLDS"]
    assert [line.split() for line in lines[5:8]] == [
        ["gpu-1", "cuda:0", "ic-light", "ready", "captured", "real", "1"],
        ["pulid-lightning", "ready", "eager", "real", "0"],
        ["gpu-2", "cuda:0", "ic-light", "failed", "-", "-", "0"],
    ]
    assert lines[8] == "gpu-1: pulid-lightning: falls back: predict_noise: no C compiler"
    assert re.fullmatch(r"gpu-1: r0 \(ic-light\) for 0\.\d s, step 7 of 50", lines[9])
    assert lines[10:] == ["gpu-2: ic-light: cannot load: unet.safetensors: missing"]


def test_the_same_as_json_by_the_genuine_command(facelight: Shell, records: Records, redis: Redis) -> None:
    enqueue(records, "r0")
    enqueue(records, "r1", "pulid-lightning")
    assert claim(records, "ic-light", "foreground", "gpu-1") is not None
    report(redis, "gpu-1", "r0", "gone", ic_light=READY)
    time.sleep(0.3)
    done = facelight.process("status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["paused"] is False
    assert found["models"]["ic-light"] == {
        "waiting": 0,
        "variants": {variant: 0 for variant in MODELS["ic-light"].params.variants},
        "oldest_waiting_s": None,
        "running": 1,
    }
    assert found["models"]["pulid-lightning"]["waiting"] == 1
    assert 0.3 < found["models"]["pulid-lightning"]["oldest_waiting_s"] < 30
    (worker,) = found["workers"]
    assert (worker["name"], worker["device"]) == ("gpu-1", "cuda:0")
    assert worker["models"]["ic-light"]["execution"] == "captured"
    (held,) = worker["requests"]
    assert (held["request_id"], held["model"], held["attempt"]) == ("r0", "ic-light", 1)


def test_without_workers(facelight: Shell) -> None:
    assert facelight("status").stdout.splitlines()[-1] == "No worker is alive."


def test_watching_until_it_is_interrupted(facelight: Shell, records: Records) -> None:
    words = [FACELIGHT, "status", "--watch", "--every", "0.2", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        first = json.loads(process.stdout.readline())
        enqueue(records, "r0")
        waiting = [first["models"]["ic-light"]["waiting"]]
        while waiting[-1] == 0:
            waiting.append(json.loads(process.stdout.readline())["models"]["ic-light"]["waiting"])
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.stderr.read()
        assert process.wait(10) in (1, 130)
    assert set(waiting) == {0, 1}


def test_a_redis_that_is_away_is_told_in_a_sentence(facelight: Shell) -> None:
    facelight.set_variable("FACELIGHT_REDIS_URL", "redis://127.0.0.1:1/0")
    for words in (["status"], ["queue", "list"], ["queue", "pause"], ["queue", "drain"]):
        assert "facelight: Redis cannot be used" in facelight(*words, status=2).stderr


def test_requests_are_listed_with_the_names_of_their_keys(facelight: Shell, records: Records, redis: Redis) -> None:
    alice, _ = Keys(redis).add("alice's laptop")
    revoked, _ = Keys(redis).add("bob")
    Keys(redis).revoke("bob")
    for number, owner in enumerate((alice.id, revoked.id, "0123456789abcdef", "")):
        enqueue(records, f"r{number}", owner=owner)
    enqueue(records, "r4", "pulid-lightning")
    running = claim(records, "pulid-lightning", "default", "gpu-1")
    assert running is not None
    records.report(running, 2, 4)
    records.cancel("r4")
    head, *rows = facelight("queue", "list").stdout.splitlines()
    assert head.split() == ["ID", "MODEL", "VARIANT", "STATE", "AGE", "KEY", "ATTEMPT", "STEP"]
    cells = [re.split(r"\s{2,}", row) for row in rows]
    assert [(row[0], row[1], row[2], row[3], *row[5:]) for row in cells] == [
        ("r4", "pulid-lightning", "default", "cancelling", "-", "1", "2/4"),
        ("r0", "ic-light", "foreground", "waiting", "alice's laptop", "0", "-"),
        ("r1", "ic-light", "foreground", "waiting", revoked.id, "0", "-"),
        ("r2", "ic-light", "foreground", "waiting", "0123456789abcdef", "0", "-"),
        ("r3", "ic-light", "foreground", "waiting", "-", "0", "-"),
    ]
    listed = json.loads(facelight("queue", "list", "--json", "--model", "pulid-lightning").stdout)
    assert [(one["request_id"], one["status"], one["cancel_requested"]) for one in listed] == [
        ("r4", "PROCESSING", True)
    ]
    assert 0 <= listed[0]["seconds_in_state"] <= listed[0]["age_s"]


def test_a_long_queue_is_listed_whole(facelight: Shell, records: Records) -> None:
    for number in range(1201):
        enqueue(records, f"r{number:04}")
    listed = json.loads(facelight("queue", "list", "--json").stdout)
    assert [one["request_id"] for one in listed] == [f"r{number:04}" for number in range(1201)]


def test_an_empty_queue(facelight: Shell) -> None:
    assert facelight("queue", "list").stdout == "No request waits or runs.\n"
    assert facelight("queue", "list", "--json").stdout == "[]\n"


def test_requests_are_cancelled_by_their_ids(facelight: Shell, records: Records, store: Store) -> None:
    image = store.put(b"image", "bin", 600)
    enqueue(records, "waits", subject_image=image)
    enqueue(records, "runs", "pulid-lightning")
    enqueue(records, "ends", "pulid-lightning")
    for request_id in ("runs", "ends"):
        claimed = claim(records, "pulid-lightning", "default", "gpu-1")
        assert claimed is not None and claimed.request_id == request_id
    assert complete(records, claimed, (), 1.0)
    lines = facelight("queue", "cancel", "waits", "runs", "ends", "nowhere", status=1).stdout.splitlines()
    assert lines == [
        f"waits: FAILED: {CANCELLED}",
        "runs: a worker has it, and ends it within a step",
        "ends: had been COMPLETED",
        "nowhere: there is no such request, or no longer",
    ]
    waits, runs = records.get("waits"), records.get("runs")
    assert waits is not None and runs is not None
    assert (waits.status, store.find(image)) == (Status.FAILED, None)
    assert (runs.status, runs.cancel_requested) == (Status.PROCESSING, True)


def test_all_requests_of_a_model_are_cancelled_if_the_operator_agrees(facelight: Shell, records: Records) -> None:
    for number in range(3):
        enqueue(records, f"r{number}")
    enqueue(records, "other", "pulid-lightning")
    refused = facelight("queue", "cancel", "--model", "ic-light", status=1)
    assert "Cancel 3 requests of ic-light?" in refused.stderr
    assert records.depth("ic-light") == 3
    assert len(facelight("queue", "cancel", "--model", "ic-light", "--yes").stdout.splitlines()) == 3
    assert (records.depth("ic-light"), records.depth("pulid-lightning")) == (0, 1)


@pytest.mark.parametrize(
    "words",
    [["cancel"], ["cancel", "r0", "--model", "ic-light"], ["list", "--model", "dall-e"], ["pause", "--for", "0"]],
)
def test_nonsense_is_refused(facelight: Shell, words: list[str]) -> None:
    facelight("queue", *words, status=2)


def test_a_pause_is_rqs_own(facelight: Shell, redis: Redis) -> None:
    assert facelight("queue", "pause").stdout == "Paused until `facelight queue resume`.\n"
    assert redis.get("rq:suspended") == b"1" and redis.ttl("rq:suspended") == -1
    assert facelight("status").stdout.splitlines()[0].startswith("PAUSED")
    assert json.loads(facelight("status", "--json").stdout)["paused"] is True
    assert facelight("queue", "resume").stdout == "Resumed.\n"
    assert not redis.exists("rq:suspended")
    assert facelight("queue", "resume").stdout == "It was not paused.\n"
    facelight("queue", "pause", "--for", "90")
    assert 80 < redis.ttl("rq:suspended") <= 90


def test_draining_ends_when_nothing_waits_or_runs(facelight: Shell, records: Records) -> None:
    enqueue(records, "r0")
    enqueue(records, "r1")

    def work() -> None:
        for _ in range(2):
            time.sleep(0.6)
            claimed = claim(records, "ic-light", "foreground", "gpu-1")
            assert claimed is not None
            time.sleep(0.6)
            assert complete(records, claimed, (), 1.0)

    worker = threading.Thread(target=work)
    worker.start()
    done = facelight("queue", "drain", "--timeout", "20")
    worker.join()
    assert done.stdout == "No request waits or runs.\n"
    told = done.stderr.splitlines()
    assert told
    assert set(told) <= {"2 wait, 0 run", "1 wait, 1 run", "1 wait, 0 run", "0 wait, 1 run"}
    assert records.running() == [] and records.depth("ic-light") == 0


def test_draining_gives_up(facelight: Shell, records: Records) -> None:
    enqueue(records, "r0")
    began = time.monotonic()
    told = facelight("queue", "drain", "--timeout", "0.4", status=1).stderr
    assert told.splitlines()[-1] == "After 0.4 s 1 wait and 0 run."
    assert 0.4 <= time.monotonic() - began < 3
    assert facelight("queue", "drain", "--timeout", "0", "--model", "pulid-lightning").exit_code == 0


def test_draining_what_is_paused(facelight: Shell, records: Records) -> None:
    """What waits would wait for ever; what runs ends."""
    enqueue(records, "r0")
    facelight("queue", "pause")
    assert "facelight queue resume" in facelight("queue", "drain", status=2).stderr
    assert facelight("queue", "drain", "--running").stdout == "No request runs.\n"


def test_names_are_completed_in_the_shell(facelight: Shell) -> None:
    """The functions that `facelight --install-completion` writes call the command like this."""

    def completed(*words: str) -> set[str]:
        variables = {
            "_FACELIGHT_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(("facelight", *words)),
            "COMP_CWORD": str(len(words)),
        }
        return set(facelight.process(**variables).stdout.split())

    assert {"status", "queue", "doctor", "keys"} <= completed("")
    assert completed("queue", "dr") == {"drain"}
    assert completed("queue", "list", "--model", "ic") == {"ic-light"}
    without_detection = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "complete_bash" in facelight.process("--show-completion", "bash", **without_detection).stdout
