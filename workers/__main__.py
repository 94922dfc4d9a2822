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
from workers.traces import start_traces, stop_traces

_ENVIRONMENT: Final = {
    # Weights are local files: no library may look for newer ones on a hub.
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    # Sizes vary from request to request: without it, freed blocks of other sizes fragment the device's memory.
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    # Idle OpenMP threads sleep instead of spinning, which would take processor time from each other's work.
    "OMP_WAIT_POLICY": "passive",
}
"""Defaults for variables that libraries read on import; nothing has imported them yet."""


def main() -> None:
    """Read the settings and serve."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="insightface")
    try:
        settings = read_settings(WorkerSettings)
        configure_logging("worker", settings.log_level, settings.log_format)
        if settings.offline:
            os.environ["HF_HUB_OFFLINE"] = "1"  # overrides what was set: the libraries have not read it yet
        open_store(settings.store_location).check()
    except SettingsError as error:
        sys.exit(str(error))
    from workers.engine.rq_loop import DEVICE_BROKEN  # imports RQ: see `read_settings`
    from workers.engine.worker import serve

    start_traces("worker")
    try:
        status = serve(settings)
    except SettingsError as error:  # a port that is taken
        sys.exit(str(error))
    finally:
        stop_traces()
    if status == DEVICE_BROKEN:
        os._exit(status)  # the libraries' exit handlers could block on a device that does not answer
    sys.exit(status)


main()
