"""`python -m server`: one gateway process."""

from __future__ import annotations

import sys

import uvicorn
from pydantic import ValidationError

from server.app import create_app
from server.settings import GatewaySettings
from workers.logs import configure_logging


def main() -> None:
    """Read the settings and serve HTTP until SIGTERM; requests under way are answered first."""
    try:
        settings = GatewaySettings()
    except ValidationError as error:
        sys.exit(str(error))
    configure_logging("gateway", settings.log_level)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=15,
    )


main()
