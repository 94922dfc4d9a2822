"""Faults whose trials are tests of other rooms: they are run, and counted."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from tests.faults.finding import Fault, Finding

_REPOSITORY = Path(__file__).parents[3]


def tests_of(figure: str, *paths: str) -> Callable[[bool, Finding], None]:
    """A trial per test of these files, the slow ones too."""

    def inflict(_full: bool, finding: Finding) -> None:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", f"--junit-xml={report}", *paths]
            done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True)
            assert report.exists(), done.stdout + done.stderr
            for case in ElementTree.parse(report).iter("testcase"):
                _count(case, finding)
        assert finding.trials, f"there are no tests in {', '.join(paths)}"
        finding.figure = f"{figure}: {finding.survived} of {finding.trials} cases"

    return inflict


def _count(case: ElementTree.Element, finding: Finding) -> None:
    amiss = [f"{case.get('name')}: {child.tag}" for child in case if child.tag in {"failure", "error", "skipped"}]
    finding.trial(*amiss[:1])


FAULTS = (
    Fault(
        "F16",
        "image URLs that lead inside",
        "a corpus of schemes, encodings, IPv6 forms, redirects and rebinding names through the door of a gateway",
        "100 % refused with 400, zero packets to private peers",
        tests_of("refused", "tests/server/test_ssrf.py"),
    ),
    Fault(
        "F17",
        "pictures made to hurt",
        "decompression bombs, cut and damaged files, hostile metadata",
        "refused in words; memory rises by 200 MB at most",
        tests_of("bounded", "tests/server/test_bombs.py"),
    ),
    Fault(
        "F22",
        "no network",
        "a whole server without any interface but loopback",
        "both endpoints and the documentation page work",
        tests_of("worked", "tests/offline"),
    ),
)
