"""How ONNX networks run beside torch."""

from __future__ import annotations

import onnxruntime


def session_options() -> onnxruntime.SessionOptions:
    """Options whose idle threads sleep: spinning, they would take the cores that denoising needs."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
