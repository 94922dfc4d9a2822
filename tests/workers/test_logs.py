"""The log of a process, as another process reads it: one line per event with date-time, level, process, request id."""

from __future__ import annotations

import json
import re
import subprocess
import sys

_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d (?P<level>[A-Z]+) +(?P<process>\S+) +"
    r"\[(?P<request_id>[^]]*)\] (?P<message>.*)"
)
_PROGRAM = """
import logging, sys
from concurrent.futures import ThreadPoolExecutor
from workers.logs import bind_request_id, configure_logging, request_context
configure_logging("worker", "INFO", sys.argv[1])
log = logging.getLogger("test")

def compute(request_id):
    with request_context(request_id):
        log.info("in a thread")

log.info("no request")
with request_context("a", "b"):
    log.info("a batch")
    with request_context("a"):
        log.warning("one of it")
    log.info("explicit", extra={"request_id": "c"})
    bind_request_id("d")
    log.info("bound")
ThreadPoolExecutor().submit(compute, "e").result()
log.info("no request again")
log.debug("below the level")
"""


def _log(log_format: str) -> list[str]:
    command = [sys.executable, "-c", _PROGRAM, log_format]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()


_EXPECTED = [
    ("INFO", None, "no request"),
    ("INFO", "a,b", "a batch"),
    ("WARNING", "a", "one of it"),
    ("INFO", "c", "explicit"),
    ("INFO", "d", "bound"),
    ("INFO", "e", "in a thread"),
    ("INFO", None, "no request again"),
]


def test_text_lines_name_time_level_process_and_request() -> None:
    lines = [_LINE.fullmatch(line) for line in _log("text")]
    assert all(lines)
    assert [(line["level"], line["request_id"], line["message"]) for line in lines if line] == [
        (level, request_id or "-", message) for level, request_id, message in _EXPECTED
    ]
    assert {line["process"] for line in lines if line} == {"worker"}


def test_json_lines_are_objects_with_the_same_fields() -> None:
    lines = [json.loads(line) for line in _log("json")]
    assert [(line["level"], line["request_id"], line["message"]) for line in lines] == _EXPECTED
    assert all(line["process"] == "worker" and line["logger"] == "test" for line in lines)
    assert all(re.fullmatch(r"\S+T\S+[+-]\d\d:\d\d", line["time"]) for line in lines)
