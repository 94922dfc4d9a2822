"""The composition as an operator has it: a copy of the working tree, `.env`, secrets, and commands typed in a shell."""

from __future__ import annotations

import io
import json
import secrets
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import httpx
from PIL import Image

from cli.sample_photo import sample_photo

REPOSITORY: Final = Path(__file__).parents[2]
_IMAGE_FIELDS: Final = {"pulid-lightning": "face_image", "ic-light": "subject_image"}
SMALL: Final = {"prompt": "portrait", "width": "256", "height": "256"}
"""Parameters of a request that takes a second or two on a CPU."""


def copy_working_tree(folder: Path) -> None:
    """Copy what git tracks or would track: an operator's `.env` and secrets stay where they are."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, check=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Composition:
    """One composition with a project name of its own, on loopback ports. `busy_s` is how long a long job is to take."""

    def __init__(self, folder: Path, environment: dict[str, str], images: dict[str, str], busy_s: float) -> None:
        self.folder = folder
        self.name = f"facelight-test-{secrets.token_hex(3)}"
        self.busy_s = busy_s
        self.edge = ""
        self.photo = sample_photo().read_bytes()
        self._environment = environment
        self._port = free_port()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=120, trust_env=False)
        copy_working_tree(folder)
        self.types("cp .env.example .env")
        self.types("sed -i s/COMPOSE_PROFILES=gpu/COMPOSE_PROFILES=cpu-demo/ .env")
        self.types("sh deploy/secrets.sh")
        self.set(
            COMPOSE_PROJECT_NAME=self.name,
            PUBLISH_PORT=str(self._port),
            TAG="test",
            REVISION="working-tree",
            **images,
        )
        self.http.headers["x-api-key"] = (folder / "secrets" / "facelight_api_keys").read_text()

    def types(self, command: str, limit_s: float = 900, given: bytes = b"") -> str:
        """Standard output of a shell command, as docs/deploy.md shows it; raises `AssertionError` if it fails."""
        result = self.tries(command, limit_s, given)
        output = result.stdout.decode(errors="replace")
        assert result.returncode == 0, f"{command}\n{output[-2000:]}\n{result.stderr.decode(errors='replace')[-3000:]}"
        return output

    def tries(self, command: str, limit_s: float = 900, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """A shell command that may fail."""
        places = {
            "127.0.0.1:8000": f"127.0.0.1:{self._port}",
            "rm facelight_redis": f"rm {self.name}_redis",
            "compose exec ": "compose exec -T ",  # no terminal
            "sudo ": "",  # the engine test is root's
        }
        here = command
        for documented, ours in places.items():
            here = here.replace(documented, ours)
        shell = ["bash", "-o", "pipefail", "-c", here]
        return subprocess.run(
            shell, cwd=self.folder, env=self._environment, input=given, capture_output=True, timeout=limit_s
        )

    def set(self, **variables: str) -> None:
        """Set variables in `.env`, in the place of those of the same names."""
        path = self.folder / ".env"
        kept = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in variables]
        path.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in variables.items()), ""]))

    @property
    def tls(self) -> ssl.SSLContext:
        """Trusts the operator's certificate."""
        return ssl.create_default_context(cafile=str(self.folder / "certificates" / "tls.crt"))

    def edge_client(self) -> httpx.Client:
        """A client of the edge."""
        headers = self.http.headers
        return httpx.Client(base_url=self.edge, headers=headers, verify=self.tls, timeout=120, trust_env=False)

    def small_photo(self) -> bytes:
        """The photo as a JPEG of some kilobytes."""
        buffer = io.BytesIO()
        Image.open(io.BytesIO(self.photo)).resize((256, 256)).save(buffer, "JPEG")
        return buffer.getvalue()

    def shell(self, service: str, script: str) -> str:
        """What a shell in a service's container prints."""
        return self.tries(f"docker compose exec {service} sh", given=script.encode()).stdout.decode()

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        container = self.types(f"docker compose ps --all --quiet {service}").strip()
        inspected: dict[str, Any] = json.loads(self.types(f"docker inspect {container}"))[0]
        return inspected

    def kill(self, service: str) -> None:
        """SIGKILL to a container's program, as the kernel would: `docker kill` would count as an operator's wish."""
        self.shell(service, "kill -KILL $(cat /proc/1/task/1/children)")

    def wait_ready(self, limit_s: float = 240) -> None:
        """Wait until something can be served."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            try:
                if self.http.get("/health/ready", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.25)
        raise AssertionError("not ready\n" + self.types("docker compose ps --all; docker compose logs --tail 20 2>&1"))

    def form(self, slug: str) -> dict[str, Any]:
        """The photo as a part of a multipart request."""
        return {_IMAGE_FIELDS[slug]: ("photo.png", self.photo, "image/png")}

    def submit(self, slug: str, **parameters: str) -> str:
        """Enqueue a request, trying again while there is no gateway; its id."""
        for _ in range(120):
            try:
                response = self.http.post(f"/v2/{slug}", files=self.form(slug), data={**SMALL, **parameters})
            except httpx.HTTPError:
                time.sleep(0.5)
                continue
            assert response.status_code in (200, 503), response.text
            if response.status_code == 200:
                return str(response.json()["request_id"])
            time.sleep(0.5)
        raise AssertionError("the request was not accepted within a minute")

    def submit_both(self, count: int) -> list[str]:
        """Enqueue requests for both models in turn."""
        slugs = list(_IMAGE_FIELDS)
        return [self.submit(slugs[number % 2], seed=str(number), steps="4") for number in range(count)]

    def status(self, request_id: str) -> dict[str, Any]:
        """The record of a request as its caller sees it; empty while that cannot be read."""
        try:
            response = self.http.get(f"/v2/requests/{request_id}")
        except httpx.HTTPError:
            return {}
        if response.status_code == 503:
            return {}
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def wait_status(self, request_id: str, limit_s: float = 60) -> str:
        """Status of a request as soon as it can be read."""
        until = time.monotonic() + limit_s
        while not (body := self.status(request_id)):
            assert time.monotonic() < until, f"nobody tells the status of {request_id}"
            time.sleep(0.2)
        return str(body["status"])

    def wait_completed(self, ids: Iterable[str], limit_s: float = 300) -> int:
        """Wait until all requests are completed, and download every picture; how many there are."""
        until, left, done = time.monotonic() + limit_s, list(ids), []
        while left and time.monotonic() < until:
            for request_id in list(left):
                body = self.status(request_id)
                assert body.get("status") != "FAILED", body
                if body.get("status") == "COMPLETED":
                    left.remove(request_id)
                    done.append(body["output"])
            time.sleep(0.2)
        assert not left, f"{len(left)} of {len(left) + len(done)} requests did not complete"
        for url in done:
            picture = self.http.get(url)
            assert picture.status_code == 200 and picture.headers["content-type"].startswith("image/"), picture
        return len(done)
