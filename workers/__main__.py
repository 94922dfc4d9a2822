"""`python -m workers`: one worker process on one device."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Final

from workers.errors import SettingsError
from workers.logs import configure_logging
from workers.settings import WorkerSettings, read_settings
from workers.store.open import open_store

_ENVIRONMENT: Final = {
    # Weights are files that are there: no library is to ask a hub for newer ones.
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    # Idle OpenMP threads sleep instead of spinning: on a shared machine they would take each other's processor.
    "OMP_WAIT_POLICY": "passive",
}
"""What the libraries read when they are imported, which they are not yet."""


def main() -> None:
    """Read the settings and serve."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="insightface")
    try:
        settings = read_settings(WorkerSettings)
        configure_logging("worker", settings.log_level, settings.log_format)
        if settings.offline:
            os.environ["HF_HUB_OFFLINE"] = "1"  # whatever it was: the libraries have not read it yet
        open_store(settings.store_location).check()
    except SettingsError as error:
        sys.exit(str(error))
    from workers.engine.rq_loop import DEVICE_BROKEN  # RQ comes with it: see `read_settings`
    from workers.engine.worker import serve

    status = serve(settings)
    if status == DEVICE_BROKEN:
        os._exit(status)  # an orderly end would have the libraries tidy up on a device that may never answer
    sys.exit(status)


main()
