"""Memory of this host, and whether the models that are configured fit into it and into the GPU's."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from redis.exceptions import RedisError

from cli.doctor.finding import Finding, fail, ok, warn
from cli.serve import redis_url
from models.catalog import MODELS
from models.errors import WeightsError
from models.model import MemoryNeed
from server.settings import GatewaySettings
from workers.engine.memory import free_host_memory, shortage
from workers.healthcheck import workers_of
from workers.settings import WorkerSettings
from workers.state.connection import connect
from workers.state.registry import ModelState, WorkerRegistry

_GIGABYTE: Final = 1e9
_SCARCE: Final = 1e9
_TOO_LITTLE: Final = 0.25e9


def check_memory(settings: GatewaySettings, worker: WorkerSettings) -> Iterator[Finding]:
    """What this process may still take, and what the models that are configured would."""
    yield judge_host_memory(free_host_memory(), _total())
    if find_spec("torch") is None:
        yield ok("torch is not installed: whether models fit is not checked in a gateway's installation")
        return
    loaded = _loaded_here(settings)
    slugs = [slug for slug in worker.models if MODELS[slug].needs_weights]
    if missing := [slug for slug in slugs if slug not in loaded]:
        yield _check_fit(worker, missing)
    if loaded:
        yield ok(f"loaded by a worker of this host: {', '.join(sorted(loaded))}")


def judge_host_memory(free: int, total: int) -> Finding:
    """`free`: bytes that this process can still take, `total`: bytes of the host."""
    told = (
        f"{free / _GIGABYTE:.1f} GB of {total / _GIGABYTE:.1f} GB are free for this process, by its host and its cgroup"
    )
    remedy = "End other programs, or raise the limit of the container (WORKER_MEMORY in .env) or cgroup."
    if free < _TOO_LITTLE:
        return fail(told, remedy)
    return warn(told, remedy) if free < _SCARCE else ok(told)


def _total() -> int:
    found = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _loaded_here(settings: GatewaySettings) -> set[str]:
    """Models that workers of this host (in a container: of this container) have loaded: their memory is taken."""
    try:
        with connect(redis_url(settings)) as redis:
            workers = workers_of(socket.gethostname(), WorkerRegistry(redis, settings.heartbeat_ttl_s).live_workers())
    except RedisError:
        return set()
    return {slug for worker in workers for slug, model in worker.models.items() if model.state is ModelState.READY}


def _check_fit(worker: WorkerSettings, slugs: Sequence[str]) -> Finding:
    """Whether the models fit together; hashes those weight files that have not been hashed before."""
    from models.weights.hashes import WEIGHT_HASHES, HashCache
    from models.weights.installed import WeightSet
    from workers.engine.model_loader import pick_device, weights_folder

    hashes, needs = HashCache(worker.data_dir / WEIGHT_HASHES), list[MemoryNeed]()
    try:
        device = pick_device(worker.device)
        for slug in slugs:
            model, options = MODELS[slug], worker.options_of(slug)
            weights = WeightSet.open(
                weights_folder(worker), slug, hashes, model.unused_roles(options), defer_hashes=True
            )
            needs += [
                replace(need, part=f"{slug} {need.part}") for need in model.memory_needs(weights, device, options)
            ]
    except WeightsError:
        return warn("whether the models fit cannot be told without their weights", "See the line on weights.")
    except RuntimeError as error:
        return fail(f"torch cannot use {worker.device}: {str(error).partition(chr(10))[0]}", "See the line on the GPU.")
    if too_small := shortage(needs, device, free_host_memory()):
        hints = " ".join(MODELS[slug].memory_hint for slug in slugs)
        return fail(too_small, f"FACELIGHT_MODELS chooses which models are loaded. {hints}")
    size = sum(need.device + need.host for need in needs)
    return ok(f"{', '.join(slugs)} fit: {size / _GIGABYTE:.2f} GB on {device} and host together")
