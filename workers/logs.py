"""One log format for every process of the application."""

from __future__ import annotations

import logging


def configure_logging(process: str, level: str) -> None:
    """Log to standard error, each line marked with the process it comes from."""
    logging.basicConfig(
        level=level,
        format=f"%(asctime)s {process:<8} %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    for chatty in ("httpx", "botocore"):  # the latter would also write session tokens into the log
        logging.getLogger(chatty).setLevel(logging.WARNING)
