"""Logging of every process of the application: one line per event, as text or JSON, on standard error.

Each line has an ISO 8601 date-time with its UTC offset, the level, the name of the process and, if it concerns a
request, that request's id; one that concerns a batch has all ids, separated by commas.

The id of a line is that of the `request_context` around the call, or the argument `extra={"request_id": …}`, which
takes precedence. The context is a `ContextVar`: asyncio tasks and anyio's threads inherit it; threads started by
`threading` or `concurrent.futures` do not, so open it inside the function that runs there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Literal

LogFormat = Literal["text", "json"]

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


@contextmanager
def request_context(*request_ids: str) -> Iterator[None]:
    """Log the block's lines with these request ids; with none of its own, without an id."""
    token = _request_id.set(",".join(request_ids) or None)
    try:
        yield
    finally:
        _request_id.reset(token)


def bind_request_id(request_id: str) -> None:
    """Log the lines of the current context with this id from here on: until the enclosing `request_context` ends."""
    _request_id.set(request_id)


def configure_logging(process: str, level: str, log_format: LogFormat = "text") -> None:
    """Log to standard error; `process` is the process' name in every line."""
    handler = logging.StreamHandler()
    handler.addFilter(add_request_id)
    handler.setFormatter(_json_formatter(process) if log_format == "json" else _TextFormatter(process))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # No line shows them, and to collect them takes as long as to write the line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for verbose in ("httpx", "botocore"):  # the latter would also write session tokens into the log
        logging.getLogger(verbose).setLevel(logging.WARNING)


def add_request_id(record: logging.LogRecord) -> bool:
    """A filter of handlers: gives every record the `request_id` of its context, unless it has one of its own."""
    if getattr(record, "request_id", None) is None:
        record.request_id = _request_id.get()
    return True


def _timestamp(record: logging.LogRecord) -> str:
    second = _local_time(int(record.created))
    return f"{second[:19]}.{int(record.msecs):03}{second[19:]}"


@lru_cache(maxsize=1)  # a busy gateway logs a thousand lines a second, and the system looks up the time zone each time
def _local_time(second: int) -> str:
    return datetime.fromtimestamp(second).astimezone().isoformat()


class _TextFormatter(logging.Formatter):
    """`2026-11-28T18:23:22.123+00:00 INFO    gateway  [id of the request, or -] message`."""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {process:<8} [%(request_id_or_dash)s] %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """One line; more only for a traceback."""
        record.request_id_or_dash = getattr(record, "request_id", None) or "-"
        return super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002 - the base's signature
        """ISO 8601 in milliseconds, with the UTC offset."""
        return _timestamp(record)


def _json_formatter(process: str) -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter  # only where the setting asks for it

    class Formatter(JsonFormatter):
        """An object with `time`, `level`, `process`, `logger`, `request_id` (or null), `message`, and any `extra`."""

        def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002 - as above
            return _timestamp(record)

    return Formatter(
        ["asctime", "levelname", "name", "request_id", "message"],
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        static_fields={"process": process},
    )
