"""The judges: pure functions of pictures, or of what a face recogniser made of them, to a `Verdict`.

Their thresholds, and the reasons for them, stand beside each one.
"""

from __future__ import annotations
