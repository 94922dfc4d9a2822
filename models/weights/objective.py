"""What a diffusion network was trained to predict, as far as its file says so. Free of torch.

Both pipelines need networks that predict noise (epsilon). One that predicts velocity, or was trained with zero terminal
SNR, has the same tensors and would generate noise here; it is recognised by markers:

- empty tensors `v_pred` and `ztsnr` beside the weights (ComfyUI and what follows it; NoobAI-XL), `edm_vpred.*`, and
  `edm_mean` with `edm_std` (Playground v2.5),
- in the head of the file `modelspec.prediction_type` (Stability's ModelSpec), `modelspec.predict_key` (ComfyUI),
  `ss_v_parameterization` and `ss_zero_terminal_snr` (kohya-ss),
- in a scheduler's configuration `prediction_type` and `rescale_betas_zero_snr` (diffusers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from models.errors import WeightsError
from models.weights.file_errors import file_errors

_TENSORS: Final = frozenset({"v_pred", "ztsnr", "edm_mean", "edm_std"})
_TENSORS_BELOW: Final = "edm_vpred."
_PREDICTIONS: Final = ("modelspec.prediction_type", "modelspec.predict_key", "prediction_type")
_FLAGS: Final = ("ss_v_parameterization", "ss_zero_terminal_snr", "rescale_betas_zero_snr", "v_pred", "ztsnr")
_LONGEST: Final = 40
"""Characters of a value in a message."""
_NOISE: Final = frozenset({"epsilon", "eps", "noise"})
_NOTHING: Final = frozenset({"", "none", "null"})
_FALSE: Final = frozenset({"", "none", "null", "false", "0", "no"})


def require_noise_prediction(path: Path) -> None:
    """Raise `WeightFileError` if the .safetensors file at `path` is of a network that predicts anything but noise.

    Nor can a file pass that is no .safetensors file.
    """
    with file_errors(path):
        refuse_markers(_markers_in(path))


def markers_of(path: Path) -> list[str]:
    """The markers in the file at `path`; none if it is no .safetensors file."""
    try:
        return _markers_in(path)
    except (OSError, SafetensorError):
        return []


def _markers_in(path: Path) -> list[str]:
    with safe_open(path, "np") as file:
        return list(markers(file.keys(), file.metadata() or {}))


def markers(keys: Iterable[str], metadata: Mapping[str, Any]) -> Iterator[str]:
    """What of the names of tensors, and of a head or a configuration, says that something else is predicted."""
    for key in keys:
        name = key.rpartition(".")[2]
        if name in _TENSORS or key.startswith(_TENSORS_BELOW):
            yield key
    for key, value in metadata.items():
        said = str(value).strip().lower()
        if (key in _PREDICTIONS and said not in _NOISE | _NOTHING) or (key in _FLAGS and said not in _FALSE):
            yield f"{key} = {said[:_LONGEST]}"


def refuse_markers(found: Iterable[str]) -> None:
    """Raise `WeightsError` if there are any markers."""
    if mark := ", ".join(found):
        raise WeightsError(
            f"it predicts velocity, or was trained to zero signal (zero terminal SNR), as its marker says ({mark}). "
            "Only networks that predict noise (epsilon) can be drawn with here: choose another checkpoint."
        )
