"""`facelight doctor`: what each check says where all is well, and where it is not."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import socketserver
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from cli.doctor.command import CHECKS
from cli.doctor.disk import judge_room, judge_speed
from cli.doctor.finding import Level
from cli.doctor.memory import judge_host_memory
from server.settings import GatewaySettings
from tests.cli.facelight import Shell, shell
from tests.conftest import wait_for_redis
from tests.faults.matrix.disk import may_mount, small_disk
from tests.faults.processes.waiting import until
from tests.live_server import free_port
from tests.redis_server import REDIS_SERVER
from tests.server.support import hosting, serving
from workers.state.connection import connect
from workers.state.versions import QUEUE_VERSION

ORDINARY = ["--maxmemory", "100mb", "--maxmemory-policy", "noeviction", "--appendonly", "yes"]


@pytest.fixture
def facelight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return shell(monkeypatch, data_dir=tmp_path / "data", redis_url="redis://127.0.0.1:1/0", port=free_port())


def examine(facelight: Shell, check: str, status: int = 0) -> list[tuple[str, str, str]]:
    """Level, message and remedy of every line of one check."""
    found = json.loads(facelight("doctor", check, "--json", status=status).stdout)
    assert found["ok"] is (status == 0)
    assert {line["check"] for line in found["findings"]} == {check}
    for line in found["findings"]:
        assert (line["remedy"] == "") is (line["level"] == "ok"), line
    return [(line["level"], line["message"], line["remedy"]) for line in found["findings"]]


def levels(lines: list[tuple[str, str, str]]) -> list[str]:
    return [level for level, _, _ in lines]


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[str]:
    """A Redis with these options; yields its URL."""
    folder.mkdir(exist_ok=True)
    url = f"unix://{folder}/socket"
    place = ["--port", "0", "--unixsocket", f"{folder}/socket", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen([REDIS_SERVER, *place, *options], stdout=subprocess.DEVNULL)
    try:
        wait_for_redis(url)
        yield url
    finally:
        process.kill()
        process.wait(10)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_genuine_command_on_an_ordinary_server(facelight: Shell, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", *ORDINARY) as url:
        done = facelight.process("doctor", "redis", "store", "port", "url", FACELIGHT_REDIS_URL=url)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("ok    ") for line in lines), lines


def test_a_failed_check_is_told_with_its_remedy_and_by_the_exit_status(facelight: Shell) -> None:
    done = facelight.process("doctor", "redis")
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first.startswith("fail  redis   it cannot be used: ")
    assert second.startswith(" " * 14 + "Start it, and look at FACELIGHT_REDIS_URL")


def test_without_names_every_check_is_made(facelight: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    without_torch(monkeypatch)
    monkeypatch.setenv("PATH", "")
    found = json.loads(facelight("doctor", "--json", status=1).stdout)
    assert list(dict.fromkeys(line["check"] for line in found["findings"])) == list(CHECKS)


def test_an_unknown_check_is_refused(facelight: Shell) -> None:
    assert "there is no check 'luck'" in " ".join(facelight("doctor", "luck", status=2).stderr.split())


def test_settings_that_do_not_fit_are_told(facelight: Shell) -> None:
    facelight.set_variable("FACELIGHT_PORT", "seventy")
    assert "FACELIGHT_PORT" in facelight("doctor", "port", status=2).stderr


def test_an_installation_without_the_workers_packages(facelight: Shell, redis_url: str) -> None:
    """As the gateway's image: it says so, and goes on."""
    absent = (
        "torch",
        "diffusers",
        "transformers",
        "onnxruntime",
        "safetensors",
        "tomli_w",
        "rq",
        "tqdm",
        "huggingface_hub",
    )
    program = f"import sys; sys.modules.update(dict.fromkeys({absent})); from cli.main import main; main()"
    environment = {**os.environ, "FACELIGHT_REDIS_URL": redis_url, "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    words = [sys.executable, "-c", program, "doctor", "--json"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["findings"]
    assert list(dict.fromkeys(line["check"] for line in found)) == list(CHECKS)
    assert "fail" not in {line["level"] for line in found}
    untested = {line["check"] for line in found if line["message"].startswith("torch is not installed")}
    assert untested == {"memory", "weights"}


# --- gpu -------------------------------------------------------------------------------------------------------------


def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the gateway's image."""
    find_spec = importlib.util.find_spec

    def found(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "torch" else find_spec(name, package)

    for module in ("gpu", "memory", "files"):
        monkeypatch.setattr(f"cli.doctor.{module}.find_spec", found)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of nvidia-smi; nothing is there yet."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin" / "nvidia-smi"


def install(driver: Path, *lines: str, status: int = 0) -> None:
    """A program that answers what a driver would."""
    said = "\n".join(lines)
    driver.write_text(f"#!{sys.executable}\nimport sys\nprint({said!r})\nsys.exit({status})\n")
    driver.chmod(driver.stat().st_mode | stat.S_IXUSR)


def test_a_gpu_that_is_fit(facelight: Shell, driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_torch(monkeypatch)
    install(driver, "0, NVIDIA H200, 580.95.05, 9.0, 143771, 512", "1, NVIDIA H200, 580.95.05, 9.0, 143771, 0")
    first, second, torch = examine(facelight, "gpu")
    assert first[:2] == (
        "ok",
        "GPU 0: NVIDIA H200, driver 580.95.05, compute capability 9.0, 150.8 GB of memory, 0.5 GB of it in use",
    )
    assert second[1].startswith("GPU 1")
    assert "torch is not installed" in torch[1]


def test_a_gpu_that_is_not_fit(facelight: Shell, driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_torch(monkeypatch)
    install(driver, "0, NVIDIA H200, 550.54.15, 9.0, 143771, 0", "1, Tesla V100-SXM2, 580.95.05, 7.0, 32768, 0")
    old_driver, old_gpu, _ = examine(facelight, "gpu", status=1)
    assert old_driver[0] == "fail" and "branch 580" in old_driver[2]
    assert old_gpu[0] == "fail" and "compute capability 7.5" in old_gpu[2]


def test_a_gpu_that_tells_little(facelight: Shell, driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_torch(monkeypatch)
    install(driver, "0, NVIDIA GB10, 580.95.05, 12.1, [N/A], [N/A]")
    card, _ = examine(facelight, "gpu")
    assert card[1] == "GPU 0: NVIDIA GB10, driver 580.95.05, compute capability 12.1"
    install(driver, "an answer of another kind")
    assert levels(examine(facelight, "gpu", status=1)) == ["fail"]


def test_a_driver_that_fails(facelight: Shell, driver: Path) -> None:
    install(driver, "Failed to initialize NVML: Driver/library version mismatch", status=18)
    ((level, message, _),) = examine(facelight, "gpu", status=1)
    assert (level, message) == (
        "fail",
        "nvidia-smi fails: Failed to initialize NVML: Driver/library version mismatch",
    )


@pytest.mark.parametrize(("device", "level"), [("cuda:0", "fail"), ("auto", "warn"), ("cpu", "ok")])
def test_without_a_gpu(facelight: Shell, driver: Path, device: str, level: str) -> None:
    facelight.set_variable("FACELIGHT_DEVICE", device)
    assert levels(examine(facelight, "gpu", status=level == "fail")) == [level]


def test_without_a_gpu_and_torch(facelight: Shell, driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_torch(monkeypatch)
    assert levels(examine(facelight, "gpu")) == ["ok"]


def test_a_gpu_that_torch_cannot_use(facelight: Shell, driver: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch can use the GPU of this machine")
    install(driver, "0, NVIDIA H200, 580.95.05, 9.0, 143771, 0")
    card, by_torch = examine(facelight, "gpu", status=1)
    assert card[0] == "ok"
    assert by_torch[0] == "fail" and "can use no GPU" in by_torch[1]


# --- memory, disk ----------------------------------------------------------------------------------------------------


def test_memory_of_the_host() -> None:
    assert judge_host_memory(int(8e9), int(16e9)).level is Level.OK
    assert judge_host_memory(int(0.5e9), int(16e9)).level is Level.WARN
    assert judge_host_memory(int(0.1e9), int(16e9)).level is Level.FAIL


def test_memory_in_a_gateways_installation(facelight: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    without_torch(monkeypatch)
    host, models = examine(facelight, "memory")
    assert "are free for this process" in host[1]
    assert "torch is not installed" in models[1]


@pytest.mark.slow
def test_models_that_fit_and_models_that_do_not(
    facelight: Shell, demo_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facelight.set_variable("FACELIGHT_WEIGHTS_DIR", str(demo_weights))
    facelight.set_variable("FACELIGHT_DEVICE", "cpu")
    _, fit = examine(facelight, "memory")
    assert fit[0] == "ok" and fit[1].startswith("pulid-lightning, ic-light fit: ")
    monkeypatch.setattr("cli.doctor.memory.free_host_memory", lambda: 10_000_000)
    _, too_large = examine(facelight, "memory", status=1)
    assert too_large[0] == "fail"
    assert "this host has 0.01 GB of memory free where" in too_large[1]
    assert "FACELIGHT_MODELS" in too_large[2]
    facelight.set_variable("FACELIGHT_WEIGHTS_DIR", str(demo_weights / "nowhere"))
    monkeypatch.undo()


def test_room_and_speed_of_a_disk() -> None:
    room = [judge_room(Path("/data"), int(free)).level for free in (100e9, 5e9, 0.5e9)]
    assert room == [Level.OK, Level.WARN, Level.FAIL]
    assert judge_speed(500e6, 0.002).level is Level.OK
    assert judge_speed(10e6, 0.002).level is Level.WARN
    assert judge_speed(500e6, 0.5).level is Level.WARN


def test_a_disk_is_measured_and_left_as_it_was(facelight: Shell, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    if shutil.disk_usage(tmp_path).free < 1e9:
        pytest.skip("no room on this machine")
    _, speed = examine(facelight, "disk")
    assert "MB/s, and a small file is durable after" in speed[1]
    assert list((tmp_path / "data").iterdir()) == []


def test_a_data_folder_that_cannot_be(facelight: Shell, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file is in its place")
    ((level, message, remedy),) = examine(facelight, "disk", status=1)
    assert level == "fail" and "cannot be written: File exists" in message and "FACELIGHT_DATA_DIR" in remedy


@pytest.mark.skipif(not may_mount(), reason="mounting is not allowed here")
def test_a_full_disk(facelight: Shell) -> None:
    with small_disk() as folder:
        facelight.set_variable("FACELIGHT_DATA_DIR", str(folder))
        ((level, message, _),) = examine(facelight, "disk", status=1)
    assert level == "fail" and message.startswith("0.0 GB are free")


# --- redis -----------------------------------------------------------------------------------------------------------


def examine_redis(facelight: Shell, url: str, status: int = 0) -> dict[str, tuple[str, str]]:
    """Level and message of each line, by its first words."""
    facelight.set_variable("FACELIGHT_REDIS_URL", url)
    found = {message: (level, message) for level, message, _ in examine(facelight, "redis", status)}
    return {
        topic: line
        for topic, mark in {
            "version": "is reachable",
            "cluster": "Redis Cluster",
            "role": "replica",
            "memory": "MiB in use",
            "persistence": "append-only file",
            "round trip": "round trip",
            "clock": "its clock",
            "queue": "newer facelight",
            "pause": "paused",
        }.items()
        for message, line in found.items()
        if mark in message
    }


def test_a_redis_that_is_fit(facelight: Shell, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", *ORDINARY) as url:
        found = examine_redis(facelight, url)
    assert {topic: level for topic, (level, _) in found.items()} == {
        "version": "ok",
        "memory": "ok",
        "persistence": "ok",
        "round trip": "ok",
        "clock": "ok",
    }
    assert found["memory"][1].endswith(" MiB in use of 100 MiB, noeviction")


@contextmanager
def far_away(target: Path, folder: Path, seconds: float) -> Iterator[str]:
    """A way to the Redis at the socket `target` on which every reply takes so long; yields its URL."""

    class Relay(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as redis:
                redis.connect(str(target))
                while command := self.request.recv(65_536):
                    redis.sendall(command)
                    reply = redis.recv(1_000_000)
                    time.sleep(seconds)
                    self.request.sendall(reply)

    with socketserver.ThreadingUnixStreamServer(str(folder / "far"), Relay) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"unix://{folder}/far"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("seconds", "level"), [(0.02, "warn"), pytest.param(0.3, "fail", marks=pytest.mark.slow, id="0.3 s")]
)
def test_a_redis_that_is_far_away(facelight: Shell, tmp_path: Path, seconds: float, level: str) -> None:
    with (
        redis_server(tmp_path / "redis", *ORDINARY),
        far_away(tmp_path / "redis" / "socket", tmp_path, seconds) as url,
    ):
        assert examine_redis(facelight, url, status=level == "fail")["round trip"][0] == level


def test_a_redis_that_loses_requests(facelight: Shell, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as url:
        found = examine_redis(facelight, url, status=1)
    assert (found["memory"][0], found["persistence"][0]) == ("fail", "warn")


def test_a_redis_without_a_limit(facelight: Shell, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", "--appendonly", "yes") as url:
        found = examine_redis(facelight, url)
    assert found["memory"][0] == "warn" and "no limit" in found["memory"][1]


@pytest.mark.parametrize(("share", "level"), [(0.85, "warn"), (0.97, "fail")])
def test_a_redis_that_is_nearly_full(facelight: Shell, tmp_path: Path, share: float, level: str) -> None:
    with redis_server(tmp_path / "redis", *ORDINARY[:4]) as url:
        redis = Redis.from_url(url)
        redis.set("x", b"x" * 20_000_000)
        redis.connection_pool.disconnect()
        time.sleep(0.3)  # the buffer of that connection is memory in use as well
        redis.config_set("maxmemory", int(redis.info()["used_memory"] / share))
        found = examine_redis(facelight, url, status=level == "fail")
    assert found["memory"][0] == level


@pytest.mark.skipif(not may_mount(), reason="mounting is not allowed here")
def test_a_redis_without_a_disk(facelight: Shell) -> None:
    with small_disk() as folder, redis_server(folder / "redis", *ORDINARY) as url:
        redis = Redis.from_url(url)
        with suppress(RedisError):
            for number in range(40):
                redis.set(f"x{number}", b"x" * 100_000)
                time.sleep(0.01)
        until(lambda: redis.info()["aof_last_write_status"] == "err", "Redis to notice")
        assert examine_redis(facelight, url, status=1)["persistence"][0] == "fail"


def test_a_redis_that_cannot_be_written(facelight: Shell, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", *ORDINARY, "--replicaof", "127.0.0.1", "1") as url:
        assert examine_redis(facelight, url, status=1)["role"][0] == "fail"


def test_a_redis_cluster(facelight: Shell, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", *ORDINARY, "--cluster-enabled", "yes") as url:
        assert examine_redis(facelight, url, status=1)["cluster"][0] == "fail"


def test_a_redis_whose_user_may_do_nothing(facelight: Shell, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", *ORDINARY) as url:
        Redis.from_url(url).execute_command("ACL", "SETUSER", "poor", "on", ">secret", "~*", "+ping")
        facelight.set_variable("FACELIGHT_REDIS_URL", url.replace("unix://", "unix://poor:secret@"))
        ((level, message, remedy),) = examine(facelight, "redis", status=1)
    assert level == "fail" and "permissions" in message and "redis-users.acl" in remedy


def test_a_queue_of_a_newer_version_and_a_pause(facelight: Shell, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", *ORDINARY) as url:
        facelight.set_variable("FACELIGHT_REDIS_URL", url)
        facelight("queue", "pause")
        assert examine_redis(facelight, url)["pause"][0] == "warn"
        connect(url).set("facelight:version", QUEUE_VERSION + 1)
        assert examine_redis(facelight, url, status=1)["queue"][0] == "fail"


@pytest.mark.parametrize(("shift_s", "level"), [(-10.0, "warn"), (3600.0, "fail")])
def test_clocks_that_disagree(
    facelight: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift_s: float, level: str
) -> None:
    true_time = time.time
    monkeypatch.setattr("cli.doctor.redis_server.time.time", lambda: true_time() + shift_s)
    with redis_server(tmp_path / "redis", *ORDINARY) as url:
        found = examine_redis(facelight, url, status=level == "fail")
    assert found["clock"][0] == level
    assert ("behind" if shift_s > 0 else "ahead of") in found["clock"][1]


def test_the_redis_of_a_server_that_does_not_run(facelight: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACELIGHT_REDIS_URL")
    ((level, message, _),) = examine(facelight, "redis")
    assert level == "warn" and "`facelight serve`" in message


# --- store, weights --------------------------------------------------------------------------------------------------


def test_a_store_that_is_fit(facelight: Shell) -> None:
    ((level, message, _),) = examine(facelight, "store")
    assert level == "ok" and "was written, read and removed" in message


def test_a_store_that_refuses(facelight: Shell, tmp_path: Path) -> None:
    (tmp_path / "place").write_text("a file is in its place")
    facelight.set_variable("FACELIGHT_STORE", str(tmp_path / "place"))
    assert levels(examine(facelight, "store", status=1)) == ["fail"]


def test_a_bucket_that_does_not_answer(facelight: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:1", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    facelight.set_variable("FACELIGHT_STORE", "s3://bucket/prefix")
    ((level, message, _),) = examine(facelight, "store", status=1)
    assert level == "fail" and "does not answer" in message


def test_weights_are_told_by_model(facelight: Shell, demo_weights: Path) -> None:
    facelight.set_variable("FACELIGHT_WEIGHTS_DIR", str(demo_weights))
    portraits, scenes, kind = examine(facelight, "weights")
    assert portraits[1].startswith("pulid-lightning: ") and scenes[1].startswith("ic-light: ")
    assert "have their sizes (demo)" in scenes[1]
    assert kind[0] == "warn" and "demonstration only" in kind[1]


def test_weights_that_are_damaged_missing_or_of_another_model(
    facelight: Shell, demo_weights: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(demo_weights, weights)
    facelight.set_variable("FACELIGHT_WEIGHTS_DIR", str(weights))
    facelight.set_variable("FACELIGHT_MODELS", "ic-light")
    files = sorted(weights.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    record = (weights / "installed.toml").read_text()
    damaged = [path for path in files if "ic-light" in _entry(record, path.relative_to(weights).as_posix())][:2]
    damaged[0].unlink()
    damaged[1].write_bytes(damaged[1].read_bytes()[:-1])
    wrong, _ = examine(facelight, "weights", status=1)
    assert wrong[0] == "fail" and "2 of " in wrong[1]
    assert all(path.relative_to(weights).as_posix() in wrong[1] for path in damaged)
    (weights / "installed.toml").write_text("nonsense")
    assert levels(examine(facelight, "weights", status=1)) == ["fail"]
    (weights / "installed.toml").write_text('kind = "real"\nweights = []\n')
    ((level, message, remedy),) = examine(facelight, "weights", status=1)
    assert level == "fail" and "holds no weights for ic-light" in message and "--only ic-light" in remedy


def _entry(record: str, path: str) -> str:
    """The entry of the record that has the file."""
    return next((entry for entry in record.split("[[weights]]") if f'"{path}"' in entry), "")


@pytest.mark.parametrize(
    ("variables", "level"), [({}, "warn"), ({"demo": "true"}, "warn"), ({"demo": "false"}, "fail")]
)
def test_without_weights(facelight: Shell, variables: dict[str, str], level: str) -> None:
    for name, value in variables.items():
        facelight.set_variable(f"FACELIGHT_{name.upper()}", value)
    assert levels(examine(facelight, "weights", status=level == "fail")) == [level]


def test_weights_in_a_gateways_installation(facelight: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    without_torch(monkeypatch)
    assert levels(examine(facelight, "weights")) == ["ok"]


# --- port, url -------------------------------------------------------------------------------------------------------


def test_a_port_that_is_free_and_one_that_is_taken(facelight: Shell) -> None:
    ((level, message, _),) = examine(facelight, "port")
    assert level == "ok" and "is free" in message
    with socket.create_server(("127.0.0.1", 0)) as other, hosting() as host:
        for port in (other.getsockname()[1], host.url.rpartition(":")[2]):
            facelight.set_variable("FACELIGHT_PORT", str(port))
            ((level, message, _),) = examine(facelight, "port", status=1)
            assert level == "fail" and "Cannot listen" in message


def test_a_gateway_that_answers(facelight: Shell, redis_url: str, tmp_path: Path) -> None:
    with serving(GatewaySettings(redis_url=redis_url, data_dir=tmp_path)) as client:
        facelight.set_variable("FACELIGHT_PORT", str(client.base_url.port))
        facelight.set_variable("FACELIGHT_PUBLIC_URL", str(client.base_url))
        ((level, message, _),) = examine(facelight, "port")
        assert level == "ok" and "facelight answers on" in message
        ((level, message, _),) = examine(facelight, "url")
        assert level == "ok" and "leads to facelight" in message


def test_a_public_url_that_leads_elsewhere(facelight: Shell) -> None:
    with hosting() as host:
        for url in (host.url, "http://127.0.0.1:1", "https://nowhere.invalid"):
            facelight.set_variable("FACELIGHT_PUBLIC_URL", url)
            ((level, message, _),) = examine(facelight, "url")
            assert level == "warn" and f"{url} does not lead to facelight" in message


def test_without_a_public_url(facelight: Shell) -> None:
    assert levels(examine(facelight, "url")) == ["ok"]
