"""What is done with the composition, in order. The commands of docs/deploy.md stand here as they stand there."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from math import ceil
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from tests.engine.composition import SMALL, Composition, free_port
from tests.engine.traffic import Load, Watch, data_url
from tests.faults.finding import Fault, Finding
from tests.faults.report import publish

Figures = list[str]
_CLI: Final = "docker compose exec redis sh -c 'REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli"
BACKUP: Final = (
    f"{_CLI} config set auto-aof-rewrite-percentage 0'",
    "docker compose exec redis tar -C /data -c . >redis.tar",
    f"{_CLI} config set auto-aof-rewrite-percentage 100'",
)
FIRST_PICTURE: Final = (
    'curl --fail --header "x-api-key: $(cat secrets/facelight_api_keys)" --form subject_image=@photo.png '
    '--form prompt="sunset over the sea" --output picture.webp http://127.0.0.1:8000/v1/ic-light'
)
_ONE_LINE_CHANGE_BYTES: Final = 20_000_000
_AWAY_S: Final = 6.0
"""A gateway stops and the next one starts; on a machine without other work."""
_CALLS: Final = 2000
_MOST_PICTURES: Final = 12
_MOST_STEPS: Final = 100
"""Of one request, by the API."""


def first_build(c: Composition, figures: Figures) -> None:
    """Both images, with what identifies them."""
    c.types("docker compose build", limit_s=3600)
    for name in ("gateway", "worker"):
        image = json.loads(c.types(f"docker image inspect facelight-{name}:test"))[0]
        figures.append(f"{name} {image['Size'] / 1e6:.0f} MB")
        labels = image["Config"]["Labels"]
        assert labels["org.opencontainers.image.version"] == "test", labels
        assert labels["org.opencontainers.image.revision"] == "working-tree", labels
        assert labels["org.opencontainers.image.licenses"] == "Apache-2.0", labels


def first_start(c: Composition, figures: Figures) -> None:
    """From nothing to ready."""
    began = time.monotonic()
    c.types("docker compose up --detach --wait")
    figures.append(f"up --wait {time.monotonic() - began:.1f} s")
    c.types(
        "until curl --fail-with-body --silent --show-error http://127.0.0.1:8000/health/ready; do echo; sleep 5; done",
        limit_s=300,
    )
    figures.append(f"ready {time.monotonic() - began:.1f} s")
    (c.folder / "photo.png").write_bytes(c.photo)
    c.types(FIRST_PICTURE)
    assert (c.folder / "picture.webp").read_bytes().startswith(b"RIFF")
    figures.append(f"first picture {time.monotonic() - began:.1f} s")


def every_endpoint(c: Composition, figures: Figures) -> None:
    """One request per endpoint, on demo weights."""
    assert httpx.get(f"{c.http.base_url}/v1/get-user-credits", trust_env=False).status_code == 401
    for slug in ("pulid-lightning", "ic-light"):
        began = time.monotonic()
        response = c.http.post(f"/v1/{slug}", files=c.form(slug), data={**SMALL, "steps": "4"})
        assert response.status_code == 200 and response.headers["content-type"].startswith("image/"), response.text
        figures.append(f"{slug} {time.monotonic() - began:.1f} s")
    done = c.submit_both(2)
    c.wait_completed(done)
    assert c.http.get(f"/v2/requests/{done[0]}/status").json()["status"] == "COMPLETED"
    assert c.http.get(f"/v1/requests/{done[0]}").status_code == 200
    assert c.http.delete(f"/v2/requests/{c.submit('ic-light')}").status_code in (200, 202, 409)
    uploaded = c.http.post("/upload-asset", json={"data_urls": [data_url(c.small_photo())]})
    assert uploaded.status_code == 200, uploaded.text
    again = c.http.post("/v2/ic-light", json={**SMALL, "subject_image": uploaded.json()["urls"][0], "steps": "2"})
    c.wait_completed([again.json()["request_id"]])
    assert "ic-light" in c.types("docker compose exec gateway facelight status")
    checks = c.types("docker compose exec gateway facelight doctor redis store disk")
    figures.append(f"facelight doctor: {len(checks.splitlines())} lines, none failed")
    for path in ("/v1/get-user-credits", "/health/live", "/health/ready", "/openapi.json", "/docs"):
        assert c.http.get(path).status_code == 200, path


def rights(c: Composition, figures: Figures) -> None:
    """Users, capabilities, what can be written, and which way out there is."""
    for service, uid in (("redis", "999"), ("gateway", "10001"), ("worker-cpu", "10001")):
        status = c.shell(service, "cat /proc/1/status")
        for line in (f"Uid:\t{uid}\t{uid}\t", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
            assert line in status, (service, line)
        written = c.shell(service, "for p in / /app /etc /usr /opt; do touch $p/x 2>/dev/null && echo $p; done")
        assert not written, (service, written)
        assert c.shell(service, "stat -c %u /data; touch /data/x /tmp/x && rm /data/x && echo written").split() == [
            uid,
            "written",
        ]
        known = json.dumps(c.inspect(service)["Config"])
        for secret in (c.folder / "secrets").iterdir():
            assert secret.read_text() not in known, f"docker inspect shows {secret.name} of {service}"
        assert c.inspect(service)["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert _reaches(c, "worker-cpu", "redis", 6379)
    router = _next_hop()
    outside = {name: bool(router) and _reaches(c, name, router, 9) for name in ("gateway", "worker-cpu")}
    assert not outside["worker-cpu"], "the worker has a way out"
    way_out = "the gateway has a way out, the worker none" if outside["gateway"] else "this machine's router is silent"
    assert "NOAUTH" in c.shell("redis", "redis-cli ping")
    assert "pulid" in c.types("docker compose run --rm weights list")
    figures.append(f"no capabilities, read-only trees, secrets not in docker inspect; {way_out}")


def _reaches(c: Composition, service: str, host: str, port: int) -> bool:
    """Whether a packet from a container comes back from there: a connection, or a refusal."""
    connect = (
        f'import socket\ntry: socket.create_connection(("{host}", {port}), 3)\nexcept ConnectionRefusedError: pass'
    )
    return "REACHED" in c.shell(service, f"timeout 15 python3 -c '{connect}' 2>/dev/null && echo REACHED")


def _next_hop() -> str:
    """Address of the router by which this machine reaches others; empty if there is none."""
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        _, destination, gateway, *_ = line.split()
        if destination == "00000000":
            return str(ip_address(int(gateway, 16).to_bytes(4, sys.byteorder)))
    return ""


def kills(c: Composition, figures: Figures) -> None:
    """SIGKILL to each program with requests on their way."""
    for service in ("worker-cpu", "redis", "gateway"):
        ids = c.submit_both(6)
        time.sleep(1)
        before = c.inspect(service)["RestartCount"]
        c.kill(service)
        completed = c.wait_completed(ids)
        assert c.inspect(service)["RestartCount"] == before + 1, f"{service} was not restarted by the engine"
        figures.append(f"{service} killed: {completed} of {len(ids)} completed")
    c.wait_ready()


def stops(c: Composition, figures: Figures) -> None:
    """Redis restarted, the worker stopped in a job; what waits stays, over `down` and `up` with two workers as well."""
    key = c.types("docker compose exec gateway facelight keys add NAME").split()[-1]
    ids = c.submit_both(6)
    time.sleep(1)
    c.types("docker compose restart redis")
    c.types("docker compose stop worker-cpu")
    states = [c.wait_status(request_id) for request_id in ids]
    assert "PROCESSING" not in states and "QUEUED" in states, states
    c.types("docker compose down")
    c.types("docker compose up --detach --scale worker-cpu=2")
    c.wait_ready()
    figures.append(f"{states.count('QUEUED')} waited, {c.wait_completed(ids)} of {len(ids)} completed")
    c.types("docker compose up --detach --wait")
    _assert_accepted(c, key)


def backup(c: Composition, figures: Figures) -> None:
    """Redis saved while it runs, its volume lost, and restored: issued keys count again."""
    key = c.types("docker compose exec gateway facelight keys add kept").split()[-1]
    for command in BACKUP:
        c.types(command)
    c.types("docker compose down")
    c.types("docker volume rm facelight_redis")
    c.types("docker compose run --rm --no-deps -T redis tar -C /data -x <redis.tar")
    c.types("docker compose up --detach --wait")
    _assert_accepted(c, key)
    figures.append(f"{(c.folder / 'redis.tar').stat().st_size / 1e3:.0f} kB")
    c.wait_ready()


def _assert_accepted(c: Composition, key: str) -> None:
    response = httpx.get(f"{c.http.base_url}/v1/get-user-credits", headers={"x-api-key": key}, trust_env=False)
    assert response.status_code == 200, f"an issued key is forgotten: {response.text}"


def change_one_line(c: Composition, figures: Figures) -> None:
    """The next version: one comment in a module of each image."""
    before = {name: _layers(c, name, "test") for name in ("gateway", "worker")}
    for path in ("server/app.py", "workers/engine/worker.py"):
        module = c.folder / path
        module.write_text(module.read_text(encoding="utf-8") + "# The next version.\n", encoding="utf-8")
    c.set(TAG="next")
    began = time.monotonic()
    c.types("docker compose build", limit_s=1800)
    figures.append(f"built in {time.monotonic() - began:.1f} s")
    for name, old in before.items():
        new = _layers(c, name, "next")
        sizes = c.types(f"docker history --human=false --format '{{{{.Size}}}}' facelight-{name}:next").split()
        added = sum([int(size) for size in sizes if size != "0"][: len(set(new) - set(old))])
        assert 0 < added <= _ONE_LINE_CHANGE_BYTES, (name, added)
        figures.append(f"{name} adds {added / 1e6:.1f} MB")


def _layers(c: Composition, name: str, tag: str) -> list[str]:
    layers: list[str] = json.loads(c.types(f"docker image inspect facelight-{name}:{tag}"))[0]["RootFS"]["Layers"]
    return layers


def upgrade(c: Composition, figures: Figures) -> None:
    """Upgrade while the worker has a long job."""
    job = _keep_busy(c)
    waiting = c.submit_both(4)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    began = time.monotonic()
    with Watch().over(str(c.http.base_url)) as watch:
        c.types("docker compose up --detach gateway")
        figures.append(f"gateway replaced in {time.monotonic() - began:.1f} s")
        assert c.wait_status(job) == "PROCESSING", "the worker was not busy: the trial shows nothing"
        c.types("docker compose up --detach", limit_s=1200)
        figures.append(f"all in {time.monotonic() - began:.1f} s")
    c.wait_ready()
    c.wait_completed([job, *waiting])
    for service, image in (("gateway", "gateway"), ("worker-cpu", "worker")):
        assert c.inspect(service)["Config"]["Image"] == f"facelight-{image}:next"
    busy_s = c.status(job)["metrics"]["inference_time"]
    figures.append(f"worker busy for {busy_s:.0f} s")
    figures.append(f"API away {watch.longest_s:.1f} s at a load of {load:.1f} per core, lost 0 of {1 + len(waiting)}")
    assert watch.longest_s <= _AWAY_S, f"the API was away for {watch.longest_s:.1f} s"


def _keep_busy(c: Composition) -> str:
    """Start a job of about `busy_s` seconds, by the time that a step takes; its id."""
    for side in (256, 512, 768):
        step_s = (_job_seconds(c, side, 30) - _job_seconds(c, side, 10)) / 20
        if step_s * _MOST_STEPS * _MOST_PICTURES >= c.busy_s:
            break
    steps = min(_MOST_STEPS, ceil(c.busy_s / (step_s * _MOST_PICTURES)))
    size = {"width": str(side), "height": str(side)}
    job = c.submit("ic-light", number_of_images=str(_MOST_PICTURES), steps=str(steps), **size)
    until = time.monotonic() + 30
    while c.status(job).get("status") != "PROCESSING" and time.monotonic() < until:
        time.sleep(0.2)
    return job


def _job_seconds(c: Composition, side: int, steps: int) -> float:
    form = {"prompt": "portrait", "width": str(side), "height": str(side), "steps": str(steps), "seed": "1"}
    response = c.http.post("/v1/ic-light", files=c.form("ic-light"), data=form)
    assert response.status_code == 200, response.text
    return float(response.headers["X-generation-time"])


def edge_starts(c: Composition, figures: Figures) -> None:
    """Caddy and the second gateway, with the operator's certificate; a client's own X-Forwarded-* are not believed."""
    https, http = free_port(), free_port()
    c.types(
        "mkdir -p certificates && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost "
        "-keyout certificates/tls.key -out certificates/tls.crt"
    )
    c.types("sudo chown -R 10001 certificates")
    c.set(
        COMPOSE_PROFILES="cpu-demo,edge",
        EDGE_HOST="localhost",
        EDGE_TLS='"/certificates/tls.crt /certificates/tls.key"',
        EDGE_ADDRESS="127.0.0.1",
        EDGE_HTTP_PORT=str(http),
        EDGE_HTTPS_PORT=str(https),
        FACELIGHT_DRAIN_TIMEOUT_S="600",
        GATEWAY_STOP_GRACE="11m",
    )
    c.types("docker compose up --detach --wait")
    c.wait_ready()
    c.edge = f"https://localhost:{https}"
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Forwarded-Prefix": "/evil"}
    with c.edge_client() as client:
        response = client.post("/v2/ic-light", files=c.form("ic-light"), data={**SMALL, "steps": "2"}, headers=forged)
        assert response.status_code == 200, response.text
        assert response.json()["status_url"].startswith(f"{c.edge}/v2/requests/"), response.text
        with client.stream("GET", f"/v2/requests/{response.json()['request_id']}/events") as stream:
            states = re.findall(r'"status":\s*"([A-Z]+)"', "".join(stream.iter_text()))
        assert states[0] in ("QUEUED", "PROCESSING") and states[-1] == "COMPLETED", states
        c.wait_completed([response.json()["request_id"]])
        path = urlsplit(c.status(response.json()["request_id"])["output"]).path
        picture, part = client.get(path), client.get(path, headers={"Range": "bytes=4-11"})
        assert (part.status_code, part.content) == (206, picture.content[4:12]), part
        assert picture.content == c.http.get(path).content
        assert "last-modified" in picture.headers, "the gateway sent the picture, not Caddy"
        assert "x-accel-redirect" not in picture.headers, picture.headers
        too_large = client.post(
            "/upload-asset", content=b" " * 65 * 1024**2, headers={"Content-Type": "application/json"}
        )
        assert too_large.status_code == 413 and "64 MB" in too_large.json()["error"], too_large.text
    c.types("docker compose exec edge caddy reload --force --config /etc/caddy/Caddyfile")
    plain = httpx.get(f"http://localhost:{http}/health/live", trust_env=False)
    assert plain.status_code == 308 and plain.headers["location"] == f"{c.edge}/health/live", plain
    status = c.shell("edge", "cat /proc/1/status")
    assert "CapEff:\t0000000000000000" in status and "CapPrm:\t0000000000000000" in status, status
    figures.append(
        "TLS by the operator's certificate, http redirected, forged X-Forwarded-* ignored, 413 as the gateway's, "
        f"a picture and a part of it sent by Caddy, {len(states)} events of a request streamed through it"
    )


def edge_without_worker(c: Composition, figures: Figures) -> None:
    """Not ready is not away: requests are accepted, and wait."""
    c.types("docker compose stop worker-cpu")
    with c.edge_client() as client:
        until = time.monotonic() + 60
        while client.get("/health/ready").status_code == 200 and time.monotonic() < until:
            time.sleep(0.5)
        time.sleep(3)  # Caddy has asked every gateway since
        response = client.post("/v2/ic-light", files=c.form("ic-light"), data={**SMALL, "steps": "2"})
        assert response.status_code == 200, response.text
    c.types("docker compose up --detach")
    c.wait_ready()
    figures.append(f"accepted without a worker, {c.wait_completed([response.json()['request_id']])} completed later")


def rolling_upgrade(c: Composition, figures: Figures) -> None:
    """Both gateways, then the worker, replaced by another version while callers go on; written into docs/faults.md."""
    fault = Fault(
        "EDGE",
        "containers are replaced behind the edge",
        "`make engine-test`: both gateways, then the worker, by `docker compose up` with another tag, while callers "
        "upload, enqueue, poll, wait and download through Caddy",
        f"0 failed of {_CALLS:,} calls; every accepted request completes",
        lambda _full, finding: _replace_under_load(c, finding),
    )
    finding = fault.find(full=True)
    publish(fault, finding)
    figures.append(finding.figure)
    assert finding.trials >= _CALLS and not finding.complaints, finding.complaints[:10]


def _replace_under_load(c: Composition, finding: Finding) -> None:
    c.set(TAG="test")  # another version than the one that runs: back, which is a replacement like any other
    load = Load(c.edge, c.http.headers["x-api-key"], c.tls, c.small_photo())
    with load.running(_CALLS) as calls:
        time.sleep(5)
        began = time.monotonic()
        c.types("docker compose up --detach --wait gateway")
        c.types("docker compose up --detach --wait gateway-2")
        c.types("docker compose up --detach", limit_s=1200)
        replaced_s = time.monotonic() - began
        c.wait_ready()
    for service in ("gateway", "gateway-2", "worker-cpu"):
        assert c.inspect(service)["Config"]["Image"].endswith(":test"), service
    finding.trials = sum(calls.made.values())
    finding.blame(*calls.failures)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(calls.made.items()))
    finding.figure = (
        f"replaced in {replaced_s:.1f} s; {len(calls.failures)} failed of {finding.trials} calls ({kinds}); "
        f"{c.wait_completed(calls.enqueued)} of {len(calls.enqueued)} enqueued requests completed"
    )


def end(c: Composition, figures: Figures) -> None:
    """What `down` leaves: the volumes, until `--volumes` removes them as well, weights and issued keys included."""
    c.types("docker compose down")
    volumes = re.findall(rf"^{c.name}_(\w+)$", c.types("docker volume ls --format '{{.Name}}'"), re.MULTILINE)
    assert {"redis", "data", "edge"} <= set(volumes), volumes
    assert not c.types(f"docker ps --all --quiet --filter label=com.docker.compose.project={c.name}").strip()
    figures.append(f"volumes kept: {', '.join(sorted(volumes))}")


STEPS: Final[list[tuple[str, Callable[[Composition, Figures], None]]]] = [
    ("Build", first_build),
    ("First start", first_start),
    ("One request per endpoint", every_endpoint),
    ("Rights, secrets, networks", rights),
    ("Kills", kills),
    ("Restart, stop, down, up", stops),
    ("Backup and restore", backup),
    ("A change of one line", change_one_line),
    ("Upgrade of one gateway", upgrade),
    ("Edge", edge_starts),
    ("Edge without a worker", edge_without_worker),
    ("Rolling upgrade behind the edge", rolling_upgrade),
    ("Down", end),
]
