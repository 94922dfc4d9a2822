"""The checks: pure functions from images, or from embeddings of faces in them, to a `CheckResult`.

Each states its thresholds and the reasons for them.
"""

from __future__ import annotations
