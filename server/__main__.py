"""`python -m server`: one gateway process."""

from __future__ import annotations

import sys
from contextlib import suppress

from server.http.server import build_server, raise_descriptor_limit
from server.settings import GatewaySettings
from workers.errors import SettingsError
from workers.logs import configure_logging
from workers.settings import read_settings
from workers.store.open import open_store
from workers.traces import start_traces, stop_traces


def main() -> None:
    """Read the settings and serve HTTP until SIGTERM or SIGINT; requests in progress are finished first."""
    try:
        settings = read_settings(GatewaySettings)
        configure_logging("gateway", settings.log_level, settings.log_format)
        open_store(settings.store_location).check()
    except SettingsError as error:
        sys.exit(str(error))
    start_traces("gateway")
    from server.app import create_app  # RQ comes with it: see `read_settings`

    try:
        app = create_app(settings)
    except SettingsError as error:
        sys.exit(str(error))
    raise_descriptor_limit(settings.max_connections)
    with suppress(KeyboardInterrupt):  # of a second signal, before the server listens to them
        build_server(app, settings).run()
    stop_traces()


main()
