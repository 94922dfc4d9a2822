"""`python -m workers`: one worker process on one device."""

from __future__ import annotations

import sys

from workers.logs import configure_logging
from workers.settings import WorkerSettings
from workers.worker import serve


def main() -> None:
    """Read the settings and serve."""
    settings = WorkerSettings()
    configure_logging("worker", settings.log_level)
    sys.exit(serve(settings))


main()
