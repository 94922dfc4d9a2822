"""`facelight weights` as an operator runs it, against a hub of our own that has the whole demo twin."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from safetensors.torch import load, load_file, save
from skimage import data

from models.catalog import MODELS
from models.weights.hashes import WEIGHT_HASHES, HashCache
from models.weights.installed import InstalledFile, WeightSet, read_installed
from models.weights.lock import HubSource, read_lock
from tests.cli.weights.hub import Fault, Hub
from tests.cli.weights.twin import publish
from tests.live_server import png
from workers.engine.model_loader import LoadedModels
from workers.settings import WorkerSettings
from workers.state.registry import ModelState

UNLIMITED = float("inf")
DEAD = "http://127.0.0.1:9"


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
            "HF_HOME": str(self.lock.parent / "hf"),
            **extra,
        }

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.weights.command", *arguments],
            env=self.environment(extra),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, status: int = 0, **extra: str) -> str:
        """Run to the end; returns everything that was written."""
        process = self.start(*arguments, **extra)
        out, err = process.communicate(timeout=120)
        assert process.returncode == status, out + err
        assert "Traceback" not in err
        return out + err

    def installed(self) -> list[InstalledFile]:
        """Every recorded file."""
        return [file for weight in read_installed(self.weights).weights for file in weight.files]

    def states(self, **where: object) -> dict[str, str]:
        """What `list` says of the weights that have the values `where`, by name."""
        listed = json.loads(self.run("list", "--json"))
        return {row["name"]: row["state"] for row in listed if all(row[key] == value for key, value in where.items())}


def flip(path: Path, at: int) -> None:
    """Change one bit, and nothing else that a directory tells."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def loaded(operator: Operator, *slugs: str) -> LoadedModels:
    """What a worker makes of the operator's folder."""
    models = LoadedModels("w", WorkerSettings(data_dir=operator.data, device="cpu", models=slugs or tuple(MODELS)))
    models.load(on_change=lambda: None)
    return models


@pytest.fixture(scope="module")
def published(demo_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Path]]:
    """A hub with everything that the shipped lock names, and its twin."""
    with Hub() as hub:
        lock = tmp_path_factory.mktemp("lock") / "weights.lock"
        publish(hub, demo_weights, lock)
        yield hub, lock


@pytest.fixture(scope="module")
def fetched(published: tuple[Hub, Path], tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """An operator who has fetched everything, and leaves it as it is."""
    hub, lock = published
    operator = Operator(tmp_path_factory.mktemp("fetched"), lock, hub)
    said = operator.run("fetch", "--accept-licence", "--use", "ic-light-fbc")
    assert f"{operator.weights} holds 12 weights, all verified." in said
    return operator


@pytest.fixture
def operator(published: tuple[Hub, Path], tmp_path: Path) -> Iterator[Operator]:
    """One who has fetched nothing yet."""
    hub, lock = published
    own = tmp_path / "weights.lock"
    own.write_text(lock.read_text())
    hub.forget()
    yield Operator(tmp_path / "var", own, hub)
    hub.faults.clear()
    hub.bytes_per_s = UNLIMITED


@pytest.fixture
def copied(fetched: Operator, operator: Operator) -> Operator:
    """One with files of their own, which may be harmed."""
    shutil.copytree(fetched.data, operator.data)
    return operator


@pytest.fixture
def small(operator: Operator) -> Operator:
    """One whose lock names three weights, two of them defaults, which together are no model."""
    keep(operator, "ic-light-fc", "rmbg-1.4", "isnet-general-use")
    return operator


def keep(operator: Operator, *names: str) -> None:
    """Leave these weights alone in the operator's lock."""
    head, *entries = operator.lock.read_text().split("[[weights]]")
    kept = [entry for entry in entries if any(f'name = "{name}"' in entry for name in names)]
    operator.lock.write_text("[[weights]]".join([head, *kept]))


def test_everything_is_fetched_and_verified(fetched: Operator):
    assert set(fetched.states(default=True).values()) == {"verified"}
    assert {name for name, state in fetched.states(default=False).items() if state != "absent"} == {"ic-light-fbc"}
    assert f"{len(fetched.installed())} files verified" in fetched.run("verify")
    assert not list(fetched.weights.glob(".*"))


@pytest.mark.slow
def test_both_models_draw_with_what_was_fetched(fetched: Operator):
    models = loaded(fetched)
    reports = {slug: (report.state, report.weights) for slug, report in models.report().models.items()}
    assert reports == {slug: (ModelState.READY, "real") for slug in MODELS}
    quick = {"prompt": "a cat", "width": 256, "height": 256, "seed": 1}
    for slug, fields in (("pulid-lightning", {}), ("ic-light", {"steps": 1, "highres_scale": 1})):
        kind, pipeline = MODELS[slug].params, models.pipelines[slug]
        image = kind.image_fields[0]
        params = kind.model_validate({**quick, **fields, image: "x"})
        prepared = pipeline.prepare(params, {image: png(data.astronaut())})
        (pixels,) = pipeline.run([prepared], lambda step, total: None)
        assert pixels.shape == (1, 256, 256, 3)
        assert pixels.std() > 1


def test_a_second_run_does_nothing_in_no_time(fetched: Operator):
    fetched.hub.forget()
    record = (fetched.weights / "installed.toml").stat().st_mtime_ns
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "all verified" in fetched.run("fetch")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert fetched.hub.seen == []
    assert (fetched.weights / "installed.toml").stat().st_mtime_ns == record
    # Processor time of the command alone, whatever else the machine does; it takes a quarter of this.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_killed_in_the_middle_it_goes_on_where_it_was(operator: Operator):
    arguments = ("fetch", "--only", "ic-light", "--accept-licence")
    operator.hub.bytes_per_s = 2_000_000
    process = operator.start(*arguments)
    while not (begun := on_the_way(operator)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    operator.hub.bytes_per_s = UNLIMITED
    operator.hub.forget()
    operator.run(*arguments)
    assert operator.hub.sent() <= sum(file.published[0] for file in operator.installed()) - begun
    assert any("range" in seen.headers for seen in operator.hub.seen)
    assert set(operator.states(default=True, used_by=["ic-light"]).values()) == {"verified"}
    assert "files verified" in operator.run("verify")
    assert not list(operator.weights.glob(".*"))


def on_the_way(operator: Operator) -> int:
    """Bytes in partial files, once the largest of them has half a megabyte."""
    sizes = []
    for path in operator.weights.glob(".fetch/*.part"):
        with suppress(FileNotFoundError):  # it has been renamed since it was listed
            sizes.append(path.stat().st_size)
    return sum(sizes) if max(sizes, default=0) > 500_000 else 0


@pytest.mark.slow
def test_servers_that_fail_now_and_then_are_borne(small: Operator):
    small.hub.faults["iclight_sd15_fc.safetensors"] += [Fault(status=500), Fault(cut_after=300_000)]
    small.hub.faults["model.safetensors"] += [Fault(cut_after=100_000)]
    assert "holds 2 weights, all verified" in small.run("fetch", "--accept-licence")
    assert not any(small.hub.faults.values())


def test_damage_on_the_way_is_reported_with_both_hashes_and_repaired_by_another_run(small: Operator):
    expected = read_lock(small.lock).named("ic-light-fc").files[0].sha256
    small.hub.faults["iclight_sd15_fc.safetensors"].append(Fault(flip=1_000_000))
    said = small.run("fetch", "--accept-licence", status=2)
    assert (
        "ic-light-fc: iclight_sd15_fc.safetensors came damaged: sha256 " in said
        and f"where {expected} is expected" in said
    )
    assert said.endswith("facelight: 1 of 2 files could not be fetched; the others are kept.\n")
    assert small.states() == {"ic-light-fc": "absent", "rmbg-1.4": "verified", "isnet-general-use": "absent"}
    assert "all verified" in small.run("fetch", "--accept-licence")


@pytest.fixture
def tiny_disk(small: Operator) -> Iterator[Operator]:
    """One whose data folder is a disk of 1 MiB."""
    small.data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small.data], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk takes root")
    yield small
    subprocess.run(["umount", small.data], check=True)


def test_a_disk_that_is_too_small_is_told_before_anything_comes(tiny_disk: Operator):
    said = tiny_disk.run("fetch", "--accept-licence", status=2)
    needed = re.search(r"has 1\.0 MB of free space, and (\d+\.\d) MB are needed\. Nothing was fetched", said)
    assert needed
    assert float(needed[1]) > 1.0
    assert tiny_disk.hub.sent() == 0


def test_a_disk_that_fills_up_on_the_way_keeps_what_has_come(tiny_disk: Operator, monkeypatch: pytest.MonkeyPatch):
    (place,) = (path for path in tiny_disk.hub.plain if path.endswith("isnet-general-use.onnx"))
    monkeypatch.setitem(tiny_disk.hub.plain, place, bytes(2_000_000))
    text, entry = tiny_disk.lock.read_text(), read_lock(tiny_disk.lock).named("isnet-general-use").files[0]
    pins = f'size = {entry.size}, sha256 = "{entry.sha256}"'
    assert pins in text
    # So that neither this server nor the lock tells the size beforehand.
    tiny_disk.lock.write_text(text.replace(pins, 'sha256 = "unpinned"').replace("iclight_sd15_fc", "absent"))
    said = tiny_disk.run("fetch", "--use", "isnet-general-use", "--accept-licence", status=2)
    assert "is full. Make room and run it again: what has come is kept." in said
    assert tiny_disk.states()["isnet-general-use"] == "absent"
    assert on_the_way(tiny_disk) > 0


def test_verification_finds_one_flipped_byte_in_any_file_and_a_worker_refuses_it(copied: Operator):
    hashes = HashCache(copied.data / WEIGHT_HASHES)
    for slug in MODELS:
        WeightSet.open(copied.weights, slug, hashes)  # a worker remembers them all as right
    files = copied.installed()
    for number, file in enumerate(files):
        flip(copied.weights / file.path, at=number * (file.size - 1) // len(files))
    said = copied.run("verify", status=1)
    assert all(f"{copied.weights / file.path}: damaged: sha256 " in said for file in files)
    assert f"{len(files)} of {len(files)} files are wrong." in said
    for report in loaded(copied).report().models.values():
        assert report.state is ModelState.FAILED
        assert report.detail.startswith(f"cannot load: {copied.weights}/") and ": damaged: sha256 " in report.detail
    assert set(copied.states().values()) == {"absent", "damaged"}


def test_a_worker_that_verified_once_still_finds_what_changed_since(copied: Operator):
    WeightSet.open(copied.weights, "ic-light", HashCache(copied.data / WEIGHT_HASHES))
    path = copied.weights / "matting/rmbg-1.4.safetensors"
    flip(path, 100)
    os.utime(path, ns=(1, 1))
    models = loaded(copied, "ic-light")
    assert f"cannot load: {path}: damaged: sha256 " in models.report().models["ic-light"].detail
    assert not models.pipelines


@pytest.mark.slow
def test_wrong_files_are_repaired_by_fetching(copied: Operator):
    (copied.weights / "face/antelopev2/glintr100.onnx").unlink()
    (copied.weights / "sdxl/config/model_index.json").write_text("{}")
    assert f"2 of {len(copied.installed())} files are wrong" in copied.run("verify", status=1)
    assert "all verified" in copied.run("fetch", "--accept-licence")
    assert {Path(seen.path).name for seen in copied.hub.seen if seen.sent} == {"antelopev2.zip", "model_index.json"}
    assert "files verified" in copied.run("verify")


@pytest.mark.slow
def test_hashes_that_were_learned_are_pinned(copied: Operator):
    installed = {file.path: file for file in copied.installed()}
    unpinned = [file for weight in read_lock(copied.lock).weights for file in weight.files if not file.pinned]
    learned = [file.path for file in unpinned if file.path in installed]
    assert len(learned) >= 8
    said = copied.run("lock")
    pinned = {file.path: file for weight in read_lock(copied.lock).weights for file in weight.files}
    for path in learned:
        assert (pinned[path].size, pinned[path].sha256) == installed[path].published
        assert f"pinned {path}" in said
    assert "all verified" in copied.run("fetch")
    assert copied.hub.seen == [], "what is pinned now is what is there"
    assert "nothing to pin" in copied.run("lock")


AUDITED = """
import runpy, sys
log = open(sys.argv[1], "a", buffering=1)
def tell(event, arguments):
    if event == "socket.connect":
        print(arguments[1][0], file=log)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print(arguments[0] if event.startswith("socket.get") else arguments[1], file=log)
sys.addaudithook(tell)
sys.argv[:2] = ["facelight"]
runpy.run_module("cli.weights.command", run_name="__main__")
"""
"""Runs the command and writes down every host that it looks up or connects to."""
PLAIN_HEADERS = {"host", "accept", "accept-encoding", "connection", "user-agent", "range"}


def test_fetching_asks_for_the_files_of_the_lock_and_for_nothing_else(operator: Operator, tmp_path: Path):
    contacted, chosen = tmp_path / "contacted", ("ic-light-fbc", "isnet-general-use")
    command = [sys.executable, "-c", AUDITED, contacted, "fetch", "--accept-licence"]
    command += [word for name in chosen for word in ("--use", name)]
    environment = operator.environment({"HF_TOKEN": "hf_secret"})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert set(contacted.read_text().split()) == {"127.0.0.1", "127.0.0.2"}, "the hub's host and the other servers'"

    states = operator.states()
    weights = [weight for weight in read_lock(operator.lock).weights if states[weight.name] == "verified"]
    on_hub = {
        f"/{weight.source.repo}/resolve/{weight.source.revision}/{file.origin}"
        for weight in weights
        if isinstance(weight.source, HubSource)
        for file in weight.files
    }
    assert len(weights) == 12 and len(on_hub) > 20
    requests = {(seen.method, seen.path) for seen in operator.hub.seen if seen.host in operator.hub.url}
    assert requests == {(method, path) for method in ("HEAD", "GET") for path in on_hub}
    elsewhere = [seen for seen in operator.hub.seen if seen.host in operator.hub.cdn]
    assert {seen.method for seen in elsewhere} == {"GET"}
    plain = {path.rpartition("/")[2] for path in {seen.path for seen in elsewhere} - on_hub}
    assert plain == {"antelopev2.zip", "parsing_bisenet.pth", "isnet-general-use.onnx"}
    assert {seen.headers["user-agent"] for seen in operator.hub.seen} == {f"facelight/{version('facelight')}"}
    assert {name for seen in elsewhere for name in seen.headers} <= PLAIN_HEADERS


@pytest.mark.slow
def test_pickles_of_an_own_lock_are_converted_whatever_they_are_called(operator: Operator):
    lock, names = (
        read_lock(operator.lock),
        {"bisenet": "PARSING.PT", "eva02-clip-l-336": "eva.ckpt", "pulid-v1": "v1.Pth"},
    )
    text = operator.lock.read_text()
    for name, origin in names.items():
        source, (file,) = lock.named(name).source, lock.named(name).files
        text = text.replace(f'origin = "{file.origin}"', f'origin = "{origin}"')
        if isinstance(source, HubSource):
            place, objects = f"/{source.repo}/resolve/{source.revision}/", operator.hub.files
        else:
            place, objects = urlsplit(source.url).path, operator.hub.plain
        objects[place + origin] = objects[place + file.origin]
    operator.lock.write_text(text)
    operator.run("fetch", "--only", "pulid-lightning", "--accept-licence", "--use", "pulid-v1")
    for name in names:
        (file,) = read_lock(operator.lock).named(name).files
        assert load_file(operator.weights / file.path), "what lies there are tensors"
    assert loaded(operator, "pulid-lightning").report().models["pulid-lightning"].state is ModelState.READY


class Executed:
    """What no pickle of weights holds."""

    def __reduce__(self):
        return os.getcwd, ()


@pytest.mark.slow
@pytest.mark.parametrize("content", [{"a": torch.ones(1), "b": Executed()}, {"a": torch.ones(1), "b": Path("x")}])
def test_nobody_is_advised_to_load_a_pickle_unsafely(operator: Operator, content: object):
    keep(operator, "bisenet")
    (file,) = read_lock(operator.lock).named("bisenet").files
    torch.save(content, out := io.BytesIO())
    (place,) = (path for path in operator.hub.plain if path.endswith(file.origin))
    text = operator.lock.read_text().replace(f'size = {file.size}, sha256 = "{file.sha256}"', 'sha256 = "unpinned"')
    operator.lock.write_text(text)
    kept = operator.hub.plain[place]
    operator.hub.plain[place] = out.getvalue()
    try:
        said = operator.run("fetch", "--only", "pulid-lightning", "--accept-licence", status=2)
    finally:
        operator.hub.plain[place] = kept
    assert f"bisenet: {file.origin}: not a pickle of tensors alone" in said
    assert not re.search("weights_only|trust|add_safe_globals|arbitrary", said)


MARKS = {
    "v_pred": ({"v_pred": torch.tensor([])}, {}),
    "ztsnr": ({"ztsnr": torch.tensor([])}, {}),
    "prediction_type": ({}, {"modelspec.prediction_type": "v"}),
}


@pytest.mark.parametrize(
    "mark", [pytest.param(mark, marks=() if mark == "v_pred" else pytest.mark.slow) for mark in MARKS]
)
def test_a_checkpoint_that_predicts_no_noise_is_refused_when_it_is_fetched(operator: Operator, mark: str):
    tensors, metadata = MARKS[mark]
    keep(operator, "proteus-v0.4-lightning")
    (weight,) = read_lock(operator.lock).weights  # which the lock does not pin
    place = f"/{weight.source.repo}/resolve/{weight.source.revision}/{weight.files[0].origin}"
    kept = operator.hub.files[place]
    operator.hub.files[place] = save(load(kept) | tensors, metadata)
    try:
        said = operator.run("fetch", "--only", "pulid-lightning", "--accept-licence", status=2)
    finally:
        operator.hub.files[place] = kept
    assert f"proteus-v0.4-lightning: {weight.files[0].origin}: it predicts velocity" in said and mark in said
    assert operator.states()["proteus-v0.4-lightning"] == "absent"


def test_licences_are_agreed_to_first(small: Operator):
    said = small.run("fetch", status=2)
    assert "rmbg-1.4 (bria-rmbg-1.4: non-commercial)." in said
    assert "Agree with --accept-licence, or choose others with --commercial or --use NAME." in said
    assert small.hub.sent() == 0 and small.states()["ic-light-fc"] == "absent"


@pytest.mark.parametrize(("answer", "state"), [pytest.param("y", "verified", marks=pytest.mark.slow), ("n", "absent")])
def test_on_a_terminal_one_is_asked(small: Operator, answer: str, state: str):
    terminal, theirs = os.openpty()
    process = small.start("fetch", stdin=theirs)
    os.close(theirs)
    os.write(terminal, f"{answer}\n".encode())
    _, err = process.communicate(timeout=60)
    os.close(terminal)
    assert "Do you agree to these licences? [y/N]" in err
    assert process.returncode == (0 if state == "verified" else 2), err
    assert small.states()["rmbg-1.4"] == state


def test_for_commercial_use_others_are_chosen(operator: Operator):
    said = operator.run("fetch", "--only", "ic-light", "--commercial")
    assert "may not be used commercially" not in said
    matting = operator.states(slot="matting")
    assert (matting["birefnet-general"], matting["rmbg-1.4"]) == ("verified", "absent")


def test_what_is_lacking_for_commercial_use_is_told(operator: Operator):
    commercial = ("--only", "pulid-lightning", "--commercial")
    said = operator.run("fetch", *commercial, "--mirror", str(operator.lock.parent), status=2)
    assert "face_analysis: nothing may be used commercially (antelopev2, antelopev2-hub); pulid-lightning needs" in said


def test_without_a_network_nothing_is_asked_of_it(small: Operator, tmp_path: Path):
    mirror, carried = tmp_path / "mirror", tmp_path / "carried"
    assert "FACELIGHT_OFFLINE is set" in small.run("fetch", "--accept-licence", status=2, FACELIGHT_OFFLINE="true")
    assert "FACELIGHT_OFFLINE is set" in small.run("mirror", str(mirror), status=2, FACELIGHT_OFFLINE="1")
    assert small.hub.seen == []
    assert "2 weights, all verified" in small.run("mirror", str(mirror), "--accept-licence")
    mirror.rename(carried)
    small.hub.forget()
    offline = {"FACELIGHT_OFFLINE": "true", "HF_ENDPOINT": DEAD}
    assert "2 weights, all verified" in small.run("fetch", "--accept-licence", "--mirror", str(carried), **offline)
    assert small.hub.seen == []


def test_the_table_fits_a_terminal_and_tells_what_matters(fetched: Operator):
    lines = fetched.run("list").splitlines()
    assert max(map(len, lines[:-1])) <= 100
    (antelope,) = (line for line in lines if " antelopev2 " in line)
    assert re.fullmatch(r"\* antelopev2 +1\.\d MB +no +verified +InsightFace: .+", antelope)
    (background,) = (line for line in lines if " ic-light-fbc " in line)
    assert background.startswith("+ ")


@pytest.mark.slow
def test_demo_weights_are_built_where_they_are_wanted(operator: Operator, demo_weights: Path):
    assert f"demo weights found in {demo_weights}" in operator.run("demo", str(demo_weights))


@pytest.mark.slow
def test_demo_weights_need_no_place_for_compiled_kernels(operator: Operator, demo_weights: Path):
    """Torch makes the folder that the image names: in a read-only tree it cannot."""
    slots = {name: str(operator.lock / "cache") for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
    assert f"demo weights found in {demo_weights}" in operator.run("demo", str(demo_weights), **slots)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("fetch", "--only", "nothing"), "no model 'nothing'; there are pulid-lightning, ic-light"),
        (("fetch", "--use", "nothing"), "no weight 'nothing'"),
        (("fetch", "--mirror", "nowhere", "--accept-licence"), "The mirror nowhere is not a folder"),
        (("fetch", "--lock", "nowhere"), "The lock of weights cannot be read"),
        (("verify",), "Run `facelight weights fetch`"),
        (("lock",), "no weights were fetched"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(small: Operator, arguments: tuple[str, ...], reason: str):
    lines = small.run(*arguments, status=2).splitlines()
    assert reason in lines[-1] and lines[-1].startswith("facelight: ")


def test_it_is_a_part_of_the_command(fetched: Operator):
    command = [Path(sys.executable).with_name("facelight"), "weights", "list", "--only", "ic-light", "--json"]
    said = subprocess.run(command, env=fetched.environment({}), capture_output=True, text=True, check=True).stdout
    assert {slug for row in json.loads(said) for slug in row["used_by"]} == {"ic-light"}
