"""Stand-ins for what only weight files bring along: tokenizers, and the two face models."""

from __future__ import annotations

import io
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.pulid_lightning.identity.face import CROP_SIDE, FoundFace

_START: Final = 49406
_END: Final = 49407


class WordTokenizer:
    """One token a word, by its checksum; what both endpoints ask of CLIP's tokenizers."""

    bos_token_id = _START
    eos_token_id = _END
    pad_token_id = _END

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of `text`; raises ValueError if the special ones are asked for."""
        if add_special_tokens:
            raise ValueError("Only plain tokens are made.")
        return [zlib.crc32(word.encode()) % _START for word in text.split()]

    def __call__(self, text: str, **_options: Any) -> dict[str, list[int]]:
        """The same as transformers' tokenizers give it."""
        return {"input_ids": self.encode(text, add_special_tokens=False)}


class AnyFace:
    """Finds the same random face in every picture."""

    fallbacks = ()

    def find(self, _picture: NDArray[np.uint8]) -> FoundFace:
        """Look at nothing."""
        random = np.random.default_rng(0)
        crop = random.integers(0, 256, (CROP_SIDE, CROP_SIDE, 3), dtype=np.uint8)
        return FoundFace(crop=crop, embedding=random.standard_normal(512).astype(np.float32))


def photo(width: int, height: int, seed: int = 0) -> bytes:
    """A PNG file of smooth random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()
