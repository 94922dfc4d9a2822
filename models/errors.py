"""Errors of models.

    ModelError
    ├── InputRefused         the image or the parameters cannot be served; the message is for the caller
    │   ├── UnreadableImage  not an image, damaged, or of a format or size that is not accepted
    │   └── NoFaceFound      no face was detected in an image that must show one
    ├── NonFiniteResult      inf or nan was computed; the message is for caller and operator
    ├── WeightsError         weight files are missing, damaged or of another shape; the message is for the operator
    │   └── WeightFileError  … of known files: the message begins with their paths
    ├── DeviceUnfit          the device, or the host, cannot do what the operator chose; the message is for the operator
    └── CompilationFailed    compiling or capturing failed and was required; the message is for the operator

Whatever else leaves a pipeline is a defect (or the hardware's), and its text is not shown to callers.
`OnStep` callbacks raise their own exceptions through a pipeline: it must let them pass.
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of all errors that models raise on purpose."""


class InputRefused(ModelError):
    """The input cannot be served; `str()` is a message for the caller."""


class UnreadableImage(InputRefused):
    """The file is not an image that is accepted."""


class NoFaceFound(InputRefused):
    """No face was detected in an image that must show one."""


class NonFiniteResult(ModelError):
    """A network computed inf or nan; `str()` says where it was first seen, and the likely causes."""

    def __init__(self, stage: str) -> None:
        """`stage`: the first values that are not finite, such as "the latents"."""
        super().__init__(
            f"The model computed values that are not finite numbers, first seen in {stage}, so there is no picture. "
            "Likely causes: an extreme prompt weight such as (word:1e30), a damaged weight file, or overflow in half "
            "precision."
        )


class WeightsError(ModelError):
    """Weight files are missing, damaged or do not fit the network; `str()` is for the operator."""


class WeightFileError(WeightsError):
    """Weight files are wrong; `str()` is `FILE: reason`, or `FILE and FILE: reason`."""


class DeviceUnfit(ModelError):
    """The device, or the host, cannot do what the operator chose; `str()` is for the operator."""


class CompilationFailed(ModelError):
    """Compiling or capturing a network failed where the operator requires it; `str()` is for the operator."""
