"""What lies on disks: the store's round trip, and the weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from cli.doctor.finding import Finding, fail, ok, warn
from models.catalog import MODELS
from models.errors import WeightsError
from server.settings import GatewaySettings
from workers.errors import SettingsError, StoreRefused, StoreUnavailable
from workers.settings import WorkerSettings
from workers.store.open import open_store


def check_store(settings: GatewaySettings) -> Iterator[Finding]:
    """Write a file, read it in whole and in part, and remove it."""
    began = time.perf_counter()
    try:
        open_store(settings.store_location).round_trip()
    except StoreRefused as error:
        yield fail(
            f"{settings.store_location}: {error}", "Give this user, or these credentials, the right to write there."
        )
    except StoreUnavailable as error:
        yield fail(f"{settings.store_location} does not answer: {error}", "Look at the disk, or AWS_ENDPOINT_URL.")
    except SettingsError as error:
        yield fail(str(error), "Look at the variables that begin with AWS_.")
    else:
        milliseconds = (time.perf_counter() - began) * 1000
        yield ok(f"{settings.store_location}: a file was written, read and removed in {milliseconds:.0f} ms")


def check_weights(settings: WorkerSettings) -> Iterator[Finding]:
    """Whether every file that the record names is there in its size; for hashes there is `facelight weights verify`."""
    if find_spec("torch") is None:
        yield ok("torch is not installed: weights are not checked in a gateway's installation")
        return
    from models.weights.installed import INSTALLED_NAME, read_installed
    from workers.engine.model_loader import weights_folder

    folder = weights_folder(settings)
    slugs = [slug for slug in settings.models if MODELS[slug].needs_weights]
    if not (folder / INSTALLED_NAME).is_file():
        yield _without_record(settings, folder == settings.demo_dir)
        return
    try:
        record = read_installed(folder)
    except WeightsError as error:
        yield fail(str(error), "Run `facelight weights fetch`.")
        return
    for slug in slugs:
        files = {file.path: file.size for weight in record.weights if slug in weight.used_by for file in weight.files}
        wrong = [path for path, size in files.items() if _size(folder / path) != size]
        if not files:
            yield fail(f"{folder} holds no weights for {slug}", f"Run `facelight weights fetch --only {slug}`.")
        elif wrong:
            yield fail(
                f"{slug}: {len(wrong)} of {len(files)} files are missing or of another size: {', '.join(wrong[:3])}",
                "Run `facelight weights fetch` to repair them.",
            )
        else:
            size = sum(files.values())
            yield ok(f"{slug}: {len(files)} files, {size / 1e9:.2f} GB, in {folder} have their sizes ({record.kind})")
    if record.kind == "demo":
        yield warn("the weights are demo weights, for demonstration only", "Run `facelight weights fetch`.")


def _without_record(settings: WorkerSettings, is_demo: bool) -> Finding:
    fetch = "Run `facelight weights fetch`."
    if is_demo:
        return warn(f"no weights were fetched into {settings.real_dir}: demo weights are built and served", fetch)
    told = f"no weights were fetched into {settings.real_dir}"
    if settings.weights_dir is None and "demo" not in settings.model_fields_set:
        return warn(f"{told}: `facelight serve` serves demo weights, any other worker nothing", fetch)
    return fail(f"{told}: a worker serves nothing", f"{fetch} FACELIGHT_DEMO=true serves demo weights.")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None
