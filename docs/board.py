"""Draw the board of Grafana with the data of a real run: `python -m docs.board`, five minutes.

A server with demo weights is scraped by Debian's Prometheus while requests of both models come in; some are cancelled
or refused, and the worker is killed once. Every panel is drawn as Prometheus answers its queries: what is seen is the
board's data, not Grafana's looks.
"""

from __future__ import annotations

import base64
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

import httpx
import numpy as np
from skimage import data

from tests.contract.test_demo import quick
from tests.live_server import LiveServer, free_port, live_server, png
from tests.metrics.watching import BOARD, Prometheus, prometheus

PICTURE: Final = Path(__file__).with_name("board.svg")
_RUN_S: Final = 240
_KILLED_AT_S: Final = 110
_CALM_S: Final = 70
"""So long before the end few requests wait."""
_UNFINISHED: Final = ("QUEUED", "PROCESSING")
_STEP_S: Final = 2.0
_UNIT, _GAP, _LEGEND = 51, 8, 52
"""Pixels of a column of Grafana's 24, between panels, and for the names of a panel's series."""
_HEIGHTS: Final = {"row": 30, "stat": 66, "timeseries": 176}
_COLOURS: Final = ("#3274d9", "#e0752d", "#299c46", "#a352cc", "#c4162a", "#8f7a00", "#5794f2", "#6c757d")
_UNITS: Final = {"s": "s", "bytes": "B", "percentunit": "", "short": ""}


def draw(watcher: Prometheus, began: float, ended: float) -> str:
    """The board as SVG, its panels as wide as Grafana's."""
    parts: list[str] = []
    top, height, row = 0, 0, -1
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        if place["y"] != row:  # a new line of the board
            top, row = top + height, place["y"]
            height = _HEIGHTS[panel["type"]]
        if panel["type"] == "row":
            parts.append(f'<text x="4" y="{top + 21}" class="row">{escape(panel["title"])}</text>')
            continue
        left, width = place["x"] * _UNIT, place["w"] * _UNIT - _GAP
        inside = "".join(_panel(panel, watcher, began, ended, width, height - _GAP))
        parts.append(f'<g transform="translate({left},{top})">{inside}</g>')
    style = (
        "text{font-family:sans-serif;font-size:10px;fill:#333}.title{font-size:12px;font-weight:bold}"
        ".row{font-size:15px;font-weight:bold}.stat{font-size:22px;font-weight:bold}"
    )
    size = 24 * _UNIT, top + height
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}">'
    back = '<rect width="100%" height="100%" fill="#f4f5f5"/>'
    return "\n".join((head, f"<style>{style}</style>", back, *parts, "</svg>\n"))


def _panel(
    panel: dict[str, Any], watcher: Prometheus, began: float, ended: float, width: int, height: int
) -> Iterator[str]:
    unit = _UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    yield f'<rect width="{width}" height="{height}" fill="#fff" stroke="#d8d9da"/>'
    yield f'<text x="6" y="15" class="title">{escape(panel["title"])}</text>'
    series = list(_series(panel, watcher, began, ended))
    if panel["type"] == "stat":
        last = series[0][1][-1][1] if series else float("nan")
        yield f'<text x="6" y="46" class="stat">{_number(last)}{unit}</text>'
        return
    most = max((value for _, points in series for _, value in points), default=0) or 1
    bottom = height - _LEGEND
    yield f'<text x="6" y="30">{_number(most)}{unit}</text>'
    yield f'<line x1="6" y1="{bottom}" x2="{width - 6}" y2="{bottom}" stroke="#ccc"/>'
    names: list[str] = []
    for (name, points), colour in zip(series, _COLOURS, strict=False):
        line = " ".join(
            f"{6 + (at - began) / (ended - began) * (width - 12):.0f},{bottom - value / most * (bottom - 36):.0f}"
            for at, value in points
        )
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.3"/>'
        names.append(f'<tspan fill="{colour}">{escape(name)} \u00a0</tspan>')
    for number in range(0, len(names), 2):
        yield f'<text x="6" y="{bottom + 12 + 6 * number}">{"".join(names[number : number + 2])}</text>'


def _series(
    panel: dict[str, Any], watcher: Prometheus, began: float, ended: float
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Name and points of what a panel shows; series that are nothing but 0 come last."""
    found = []
    for target in panel["targets"]:
        for each in watcher.history(target["expr"], began, ended, _STEP_S):
            points = [(float(at), float(value)) for at, value in each["values"] if value not in ("NaN", "+Inf")]
            if points:
                found.append((_legend(target["legendFormat"], each["metric"]), points))
    return iter(sorted(found, key=lambda named: not any(value for _, value in named[1])))


def _legend(form: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        form = form.replace("{{" + name + "}}", value.removeprefix("127.0.0.1"))
    return form


def _number(value: float) -> str:
    for size, suffix in ((1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:.1f}{suffix}"
    return f"{value:.0f} " if value >= 100 else f"{value:.3g} "


def traffic(server: LiveServer, until: float) -> None:
    """Requests of both models, few and many waiting in turn; some are cancelled, some are refused."""
    chance, samples, waiting = random.Random(0), quick(), []
    face = base64.b64encode(png(np.ascontiguousarray(data.astronaut()[:256, 128:384]))).decode()
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        while time.monotonic() < until:
            waiting = [each for each in waiting if client.get(f"{each}/status").json()["status"] in _UNFINISHED]
            if len(waiting) >= (12 if until - time.monotonic() > _CALM_S else 2):
                time.sleep(0.2)
                continue
            sample, what = chance.choice(samples), chance.random()
            body = {
                **sample.params,
                sample.image_field: f"data:image/png;base64,{face}",
                "seed": chance.randrange(1000),
            }
            if what < 0.05:
                body["width"] = 7
            elif what < 0.1:
                body[sample.image_field] = "http://127.0.0.1:9/none.png"
            answer = client.post(f"/v2/{sample.slug}", json=body)
            if answer.status_code == httpx.codes.OK:
                waiting.append(f"/v2/requests/{answer.json()['request_id']}")
                if what > 0.9:
                    client.delete(waiting[-1])


def main() -> None:
    """Run the server, watch it, draw."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        with live_server(folder / "server", None, metrics_port=str(port), heartbeat_ttl_s="4") as server:
            server.wait_until_ready(timeout_s=300)
            with prometheus(folder / "prometheus", port, folder / "server" / "redis" / "socket") as watcher:
                began = time.time()
                ended = time.monotonic() + _RUN_S
                caller = threading.Thread(target=traffic, args=(server, ended))
                caller.start()
                time.sleep(_KILLED_AT_S)
                server.children()["worker"].send_signal(signal.SIGKILL)
                caller.join()
                PICTURE.write_text(draw(watcher, began + 10, time.time()), encoding="utf-8")


if __name__ == "__main__":
    main()
