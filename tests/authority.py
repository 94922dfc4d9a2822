"""The one certificate authority that tests and the servers that they start trust, and that has certified nobody.

Reading the certificates of all public authorities takes every HTTP client and gateway 40 ms, a tenth of the suite's
time.
"""

from __future__ import annotations

import os
from pathlib import Path

_FILE = str(Path(__file__).with_suffix(".pem"))


def trust_it_alone() -> None:
    """Name it to this process and to those that it starts, unless another one is named."""
    os.environ.setdefault("SSL_CERT_FILE", _FILE)


def environment_for_the_network() -> dict[str, str]:
    """The environment of a process that speaks to public hosts."""
    return {name: value for name, value in os.environ.items() if value != _FILE}
