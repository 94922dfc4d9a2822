"""Session options for ONNX networks that run beside torch."""

from __future__ import annotations

from typing import Final

import onnxruntime

_ERROR: Final = 3


def session_options() -> onnxruntime.SessionOptions:
    """Options whose idle threads sleep: spinning, they would take the cores that denoising needs.

    Only errors are logged: the runtime's warnings are for those who export networks.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERROR
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
