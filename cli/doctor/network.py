"""The gateway's port, and the address that callers reach it by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import httpx

from cli.doctor.finding import Finding, fail, ok, warn
from cli.serve import StartupError, check_free, local_url
from server.settings import GatewaySettings

_TIMEOUT_S: Final = 5.0


def check_port(settings: GatewaySettings) -> Iterator[Finding]:
    """Whether facelight answers on its port or, if not, whether it could."""
    address = f"{settings.host}:{settings.port}"
    if _is_facelight(local_url(settings), _TIMEOUT_S) == "":
        yield ok(f"facelight answers on {address}")
        return
    try:
        check_free(settings.host, settings.port)
    except StartupError as error:
        yield fail(f"{error}", "End the program that listens there (`ss -ltnp` names it), or set FACELIGHT_PORT.")
    else:
        yield ok(f"{address} is free: no gateway runs here")


def check_public_url(settings: GatewaySettings) -> Iterator[Finding]:
    """Whether callers' way to this server leads to it, as far as that can be seen from here."""
    url = settings.public_url
    if url is None:
        yield ok("FACELIGHT_PUBLIC_URL is not set: answers name the address that each call came by")
    elif reason := _is_facelight(url, _TIMEOUT_S):
        yield warn(
            f"{url} does not lead to facelight from here: {reason}",
            "Look at its name in DNS, the proxy and its certificate. A host may be kept from reaching its own public "
            "address: then ask from elsewhere.",
        )
    else:
        yield ok(f"{url} leads to facelight")


def _is_facelight(url: str, timeout_s: float) -> str:
    """Empty if a gateway answers there, else what came instead."""
    try:
        answer = httpx.get(f"{url}/health/live", timeout=timeout_s, trust_env=False)
        body = answer.json() if answer.status_code == httpx.codes.OK else None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{type(error).__name__}: {error}"
    except ValueError:
        body = None
    return "" if body == {"status": "live"} else f"HTTP status {answer.status_code} from something else"
