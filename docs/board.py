"""Draw the board of Grafana with the data of a real run: `python -m docs.board`, three minutes.

A server with demo weights is scraped by Debian's Prometheus while requests of both models come in; some are cancelled
or refused, and the worker is killed once. Every panel is drawn as Prometheus answers its queries: what is seen is the
board's data, not Grafana's looks.
"""

from __future__ import annotations

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

from tests.contract.test_demo import quick
from tests.live_server import LiveServer, free_port, live_server, png
from tests.metrics.watching import BOARD, Prometheus, prometheus

PICTURE: Final = Path(__file__).with_name("board.svg")
_RUN_S: Final = 170
_KILLED_AT_S: Final = 100
_STEP_S: Final = 2.0
_COLUMNS: Final = 4
_WIDTH, _HEIGHT, _HEAD, _GAP = 300, 150, 34, 8
_COLOURS: Final = ("#3274d9", "#e0752d", "#299c46", "#a352cc", "#c4162a", "#8f7a00", "#5794f2", "#6c757d")
_UNITS: Final = {"s": "s", "bytes": "B", "percentunit": "", "short": ""}


def draw(watcher: Prometheus, began: float, ended: float) -> str:
    """The board as SVG."""
    parts, y, column = [], 0, 0
    for panel in BOARD["panels"]:
        if panel["type"] == "row":
            y += (_HEIGHT + _GAP) * (column > 0)
            column = 0
            parts.append(f'<text x="4" y="{y + 20}" class="row">{escape(panel["title"])}</text>')
            y += 28
            continue
        x = column * (_WIDTH + _GAP)
        height = 70 if panel["type"] == "stat" else _HEIGHT
        parts.append(f'<g transform="translate({x},{y})">{"".join(_panel(panel, watcher, began, ended, height))}</g>')
        column += 1
        if column == _COLUMNS:
            y, column = y + height + _GAP, 0
    width, height = _COLUMNS * (_WIDTH + _GAP), y + (_HEIGHT + _GAP) * (column > 0)
    style = (
        "text{font-family:sans-serif;font-size:10px;fill:#333}.title{font-size:12px;font-weight:bold}"
        ".row{font-size:15px;font-weight:bold}.stat{font-size:22px;font-weight:bold}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join(
        (head, f"<style>{style}</style>", '<rect width="100%" height="100%" fill="#f4f5f5"/>', *parts, "</svg>\n")
    )


def _panel(panel: dict[str, Any], watcher: Prometheus, began: float, ended: float, height: int) -> Iterator[str]:
    yield f'<rect width="{_WIDTH}" height="{height}" fill="#fff" stroke="#d8d9da"/>'
    yield f'<text x="6" y="15" class="title">{escape(panel["title"])}</text>'
    series = []
    for target in panel["targets"]:
        for found in watcher.history(target["expr"], began, ended, _STEP_S):
            points = [(float(at), float(value)) for at, value in found["values"] if value not in ("NaN", "+Inf")]
            if points:
                series.append((_legend(target["legendFormat"], found["metric"]), points))
    unit = panel["fieldConfig"]["defaults"]["unit"]
    if panel["type"] == "stat":
        last = series[0][1][-1][1] if series else float("nan")
        yield f'<text x="6" y="50" class="stat">{_number(last)} {_UNITS[unit]}</text>'
        return
    series = [each for each in series if any(value for _, value in each[1])] or series[:1]
    top = max((value for _, points in series for _, value in points), default=0) or 1
    bottom = height - _HEAD
    yield f'<text x="6" y="30">{_number(top)} {_UNITS[unit]}</text>'
    yield f'<line x1="6" y1="{bottom}" x2="{_WIDTH - 6}" y2="{bottom}" stroke="#ccc"/>'
    legend = []
    for number, (name, points) in enumerate(series[: len(_COLOURS)]):
        colour = _COLOURS[number]
        line = " ".join(
            f"{6 + (at - began) / (ended - began) * (_WIDTH - 12):.1f},{bottom - value / top * (bottom - 36):.1f}"
            for at, value in points
        )
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.3"/>'
        legend.append(f'<tspan fill="{colour}">{escape(name)}  </tspan>')
    for row in range(2):
        shown = "".join(legend[row * 4 : row * 4 + 4])
        yield (
            f'<text x="6" y="{bottom + 13 + 12 * row}" textLength="{_WIDTH - 12}">{shown}</text>'
            if len(shown) > 400
            else f'<text x="6" y="{bottom + 13 + 12 * row}">{shown}</text>'
        )


def _legend(form: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        form = form.replace("{{" + name + "}}", value.removeprefix("127.0.0.1"))
    return form


def _number(value: float) -> str:
    for size, suffix in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if value >= size:
            return f"{value / size * (1 if size > 1e4 else 10):.1f}{suffix}"
    return f"{value:.3g}"


def traffic(server: LiveServer, until: float) -> None:
    """Requests of both models, at a rate that comes and goes; some are cancelled, some are refused."""
    chance, samples = random.Random(0), quick()
    field = {sample.slug: sample.image_field for sample in samples}
    import base64

    import numpy as np
    from skimage import data

    face = base64.b64encode(png(np.ascontiguousarray(data.astronaut()[:256, 128:384]))).decode()
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        while time.monotonic() < until:
            sample = chance.choice(samples)
            body = {
                **sample.params,
                field[sample.slug]: f"data:image/png;base64,{face}",
                "seed": chance.randrange(1000),
            }
            draw_of = chance.random()
            if draw_of < 0.05:
                body = {**body, "width": 7}
            elif draw_of < 0.1:
                body[field[sample.slug]] = "http://127.0.0.1:9/none.png"
            answer = client.post(f"/v2/{sample.slug}", json=body)
            if draw_of > 0.9 and answer.status_code == 200:
                client.delete(f"/v2/requests/{answer.json()['request_id']}")
            busy = int(time.monotonic()) % 60 < 35
            time.sleep(chance.uniform(0.1, 0.7) if busy else chance.uniform(0.5, 2))


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
