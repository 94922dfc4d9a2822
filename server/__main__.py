"""`python -m server`: one gateway process."""

from __future__ import annotations

import sys

import uvicorn

from server.app import create_app
from server.settings import GatewaySettings
from workers.errors import SettingsError
from workers.logs import configure_logging
from workers.settings import read_settings
from workers.store import open_store


def main() -> None:
    """Read the settings and serve HTTP until SIGTERM; requests under way are answered first."""
    try:
        settings = read_settings(GatewaySettings)
        configure_logging("gateway", settings.log_level)
        open_store(settings.store_location).check()
    except SettingsError as error:
        sys.exit(str(error))
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
