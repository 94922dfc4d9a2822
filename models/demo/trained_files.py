"""The trained files that the demo weights are made of: what they hold, where they lie, and their pins.

Of ic-light; the first is pulid-lightning's too:

    vae.safetensors            an AutoencoderKL; `scaling_factor` stands in the file's metadata
    unet.safetensors           a UNet with 12 inputs: noisy latents, the foreground's, the background's
    text_encoder.safetensors   a CLIPTextModel, under the prefix that the published files have
    rmbg.safetensors           a matting network of RMBG-1.4's topology

Of pulid-lightning alone, networks of `models.demo.sdxl` under the keys of their state dicts:

    portrait_unet.safetensors        the UNet of the default checkpoint
    portrait_artistic.safetensors    those tensors of the artistic checkpoint's UNet that differ from it
    portrait_realistic.safetensors   those of the realistic checkpoint's
    portrait_text.safetensors        both text encoders, the first's keys after `l.` and the second's after `g.`
    portrait_adapter.safetensors     an adapter's projections, as `models.demo.identity.projections` names them

All are in half precision. They are part of the repository, and the section `[demo]` of the shipped lock names size and
hash of each; `SHIPPED.pin()` writes that section once training has made them anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.errors import WeightsError
from models.weights.hashes import sha256_of
from models.weights.lock import SHIPPED_LOCK, DemoFile, pin_demo, read_lock

VAE: Final = "vae.safetensors"
UNET: Final = "unet.safetensors"
TEXT_ENCODER: Final = "text_encoder.safetensors"
RMBG: Final = "rmbg.safetensors"
PORTRAIT_UNET: Final = "portrait_unet.safetensors"
PORTRAIT_ARTISTIC: Final = "portrait_artistic.safetensors"
PORTRAIT_REALISTIC: Final = "portrait_realistic.safetensors"
PORTRAIT_TEXT: Final = "portrait_text.safetensors"
PORTRAIT_ADAPTER: Final = "portrait_adapter.safetensors"
FILES: Final = (
    VAE,
    UNET,
    TEXT_ENCODER,
    RMBG,
    PORTRAIT_UNET,
    PORTRAIT_ARTISTIC,
    PORTRAIT_REALISTIC,
    PORTRAIT_TEXT,
    PORTRAIT_ADAPTER,
)
"""All of them, those of ic-light first."""
_RELIGHTING: Final = 4
SCALING_FACTOR: Final = "scaling_factor"
"""Key in the metadata of `VAE`; the value is a decimal number."""
TEXT_PREFIX: Final = "text_model."
"""What the published files have before every key of the text encoder; the library no longer writes it."""
PORTRAIT_TEXT_L: Final = "l."
PORTRAIT_TEXT_G: Final = "g."
"""What stands before the keys of the first and of the second text encoder in `PORTRAIT_TEXT`."""


@dataclass(frozen=True)
class Trained:
    """A folder of trained files and the lock that pins them."""

    folder: Path
    lock: Path

    def pins(self) -> dict[str, DemoFile]:
        """What the lock says of every trained file, by name; raises `WeightsError` if it cannot be read."""
        return {file.path: file for file in read_lock(self.lock).demo.files}

    def verified(self, name: str) -> Path:
        """The file called `name`; raises `WeightsError` unless it is, to the byte, the one that the lock names."""
        path, pin = self.folder / name, self.pins().get(name)
        if pin is None or not path.is_file():
            raise WeightsError(f"The trained file {name} is not in {self.folder if pin else self.lock}.")
        if _described(path) != pin:
            raise WeightsError(f"The trained file {path} is damaged: {self.lock} names another size or hash.")
        return path

    def scaling_factor(self) -> float:
        """That of the autoencoder's latents; raises `WeightsError`."""
        with safe_open(self.verified(VAE), "pt") as file:
            return float(file.metadata()[SCALING_FACTOR])

    def copied(self, folder: Path) -> Trained:
        """A copy of all files and of the lock in `folder`, where training may replace some of them."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("*.safetensors"):
            shutil.copyfile(path, folder / path.name)
        return Trained(folder, Path(shutil.copyfile(self.lock, folder / self.lock.name)))

    def pin(self) -> None:
        """Write size and hash of every trained file, as it is now, into the lock; those of portraits may be missing.

        Raises `WeightsError` if a file of ic-light is missing or the lock cannot be written.
        """
        paths = [self.folder / name for name in FILES]
        if missing := [path.name for path in paths[:_RELIGHTING] if not path.is_file()]:
            raise WeightsError(f"{', '.join(missing)} cannot be pinned: not in {self.folder}.")
        pin_demo(self.lock, [_described(path) for path in paths if path.is_file()])


SHIPPED: Final = Trained(Path(__file__).with_name("trained"), SHIPPED_LOCK)
"""The trained files that are part of the repository."""


def save_trained(file: Path, state: Mapping[str, Tensor], **metadata: str) -> None:
    """Write the state dict to `file`, floating-point tensors in half precision, and `metadata` into its head.

    Equal states give equal bytes as long as there is no more than one entry of metadata: their order varies.
    """
    halves = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file({key: value.contiguous() for key, value in halves.items()}, file, metadata or None)


def _described(path: Path) -> DemoFile:
    return DemoFile(path=path.name, size=path.stat().st_size, sha256=sha256_of(path))
