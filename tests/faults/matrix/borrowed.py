"""Faults whose trials are tests of other rooms: they are run, and counted."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
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
            cases = list(ElementTree.parse(report).iter("testcase"))
        assert cases, f"there are no tests in {', '.join(paths)}"
        for case in cases:
            _count(case, finding)
        finding.figure = "; ".join([f"{figure}: {finding.survived} of {finding.trials} cases", *_measured(cases)])

    return inflict


def _count(case: ElementTree.Element, finding: Finding) -> None:
    amiss = [f"{case.get('name')}: {child.tag}" for child in case if child.tag in {"failure", "error", "skipped"}]
    finding.trial(*amiss[:1])


def _measured(cases: list[ElementTree.Element]) -> Iterator[str]:
    """The largest of what the tests have recorded (pytest's `record_property`), by name."""
    found: dict[str, float] = {}
    for recorded in (recorded for case in cases for recorded in case.iter("property")):
        name, value = recorded.get("name", "").replace("_", " "), float(recorded.get("value", "nan"))
        found[name] = max(value, found.get(name, value))
    return (f"{name} at most {value:.3g}" for name, value in found.items())


FAULTS = (
    Fault(
        "F16",
        "image URLs that point to internal hosts",
        "a corpus of schemes, encodings, IPv6 forms, redirects and rebinding names, sent to a gateway",
        "100 % refused with 400, zero packets to private peers",
        tests_of("refused", "tests/server/intake/test_ssrf.py"),
    ),
    Fault(
        "F17",
        "malicious images",
        "decompression bombs, truncated and damaged files, hostile metadata",
        "refused with a message; memory rises by 200 MB at most",
        tests_of("bounded", "tests/server/intake/test_bombs.py"),
    ),
    Fault(
        "F22",
        "no network",
        "a whole server without any interface but loopback",
        "both endpoints and the documentation page work",
        tests_of("worked", "tests/offline"),
    ),
)
