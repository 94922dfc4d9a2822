"""The first load of the page at `/` in Chromium: bytes over the wire, and the time until the form can be used.

`python -m bench.page`, half a minute, with a gateway and a Redis of its own. Every load has a browser context, and so a
cache, of its own; browser and gateway share the machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from playwright.sync_api import Browser, sync_playwright

from bench.load.stack import stack
from bench.report import RESULTS, Report

_LOADS: Final = 10
_BUDGET_S: Final = 240
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_STATE: Final = "/health/ready"
_WATCH: Final = """
new MutationObserver(() => {
  if (!window.usable && document.querySelector("form.make [type=submit]")) window.usable = performance.now();
}).observe(document, { childList: true, subtree: true });
"""
"""Notes when the form's button is in the document, in ms since the navigation began."""


@dataclass
class _Load:
    """One load of the page: ms until the form can be used, and what has come until the network was idle."""

    milliseconds: float
    wire_bytes: int
    responses: int


def main(arguments: list[str]) -> None:
    """Measure; raises SystemExit without a Chromium."""
    options = _parser().parse_args(arguments)
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        raise SystemExit("No Chromium is installed (Debian's package `chromium`).")
    with (
        tempfile.TemporaryDirectory(prefix="facelight-bench-") as folder,
        stack(Path(folder)) as own,
        own.gateway() as (port, _),
        sync_playwright() as playwright,
    ):
        # Its sandbox does not run as root; what it loads here is ours.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        with Report("page", folder=options.out, budget_s=_BUDGET_S, versions={"chromium": browser.version}) as report:
            _load(browser, port)  # the gateway has compressed every file once
            loads = [_load(browser, port) for _ in range(max(1, round(_LOADS * options.scale)))]
            _tell(report, loads)
        browser.close()


def _load(browser: Browser, port: int) -> _Load:
    """Load the page with an empty cache."""
    with browser.new_context() as context:
        page = context.new_page()
        page.add_init_script(_WATCH)
        wire = context.new_cdp_session(page)
        urls: dict[str, str] = {}
        lengths: list[int] = []

        def answered(event: dict[str, Any]) -> None:
            urls[event["requestId"]] = event["response"]["url"]

        def finished(event: dict[str, Any]) -> None:
            url = urls.pop(event["requestId"], "")
            if not url.endswith(_STATE) or url not in asked:  # it is asked again every few seconds
                lengths.append(event["encodedDataLength"])
            asked.add(url)

        asked: set[str] = set()
        wire.on("Network.responseReceived", answered)
        wire.on("Network.loadingFinished", finished)
        wire.send("Network.enable")
        page.goto(f"http://127.0.0.1:{port}/")
        # Not by waiting for an expression: the page's policy permits no script that is made of text.
        page.locator("form.make [type=submit]").wait_for()
        page.wait_for_load_state("networkidle")
        received = [length for length in lengths if length]  # data URIs have none
        return _Load(float(page.evaluate("window.usable")), sum(received), len(received))


def _tell(report: Report, loads: list[_Load]) -> None:
    most = max(loads, key=lambda load: load.wire_bytes)
    note = f"headers and bodies of {most.responses} responses, as they came over the wire"
    report.add("first load: received", most.wire_bytes / 1000, "kB", goal="<= 60", note=note)
    times = sorted(load.milliseconds for load in loads)
    note = f"median of {len(times)} loads with an empty cache: {times[0]:.0f} to {times[-1]:.0f} ms"
    report.add("first load: until the form can be used", median(times), "ms", goal="<= 300", note=note)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how many loads, compared to a whole run")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
