"""Weights as their makers publish them, in a mirror folder, with random values: at the published sizes, or reduced.

A .safetensors file, an ONNX file, an archive and a configuration come out at the size that the lock names, to the byte.
Pickles do not: their size depends on the version of torch that wrote them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch

from bench.full_size.face_networks import DetectorWidths, RecogniserWidths, write_detector, write_recogniser
from bench.full_size.ic_light import SD15
from bench.full_size.stored import Content, file_size, write
from bench.full_size.tokenizer import END, published_tokenizer
from bench.full_size.values import RandomValues
from bench.rehearsal.layouts import Networks, contents
from cli.weights.items import items_of
from models.weights.hashes import sha256_of
from models.weights.lock import UrlSource, Weight, WeightFile

_SEED: Final = 71
_SECOND_PADDING: Final = "!"
_RECOGNISER: Final = "glintr100.onnx"
_FILLER: Final = "unused.bin"
_NARROW_DETECTOR: Final = DetectorWidths((8, 8, 8, 16), (1, 1, 1, 1), 8, 8, 1)
_NARROW_RECOGNISER: Final = RecogniserWidths((4, 4, 8, 8), (1, 1, 1, 1))
_MEMBER_HEADERS: Final = 30 + 46
"""Bytes that a member takes besides its data and twice its name: before the data, and in the directory."""
_DOC_STRING: Final = 6
"""Number of the field `doc_string` in ONNX' `ModelProto`, a string."""
_SDXL_SIZES: Final = "sdxl/config/"


class Publisher:
    """Writes the published objects of weights into a mirror."""

    def __init__(self, mirror: Path, networks: Networks, reduced: bool, fill: bool) -> None:
        """Write below `mirror`; `fill` brings files to the sizes that the lock names, where they are smaller."""
        self._mirror, self._networks, self._reduced, self.fills = mirror, networks, reduced, fill
        self._contents, self._draw = contents(networks), RandomValues()

    def content_of(self, file: WeightFile) -> Content | None:
        """The tensors of an installed .safetensors file; None for files of other kinds."""
        return self._contents.get(file.path)

    def can_write(self, weight: Weight) -> bool:
        """Whether the layout of all files of a weight is known; that of the ONNX matting networks is not."""
        return not any(file.path.startswith("matting/") and file.path.endswith(".onnx") for file in weight.files)

    def has_free_size(self, file: WeightFile) -> bool:
        """Whether a file's published size cannot be met: of a pickle, of a graph whose names are of its own."""
        return file.converted or file.path.endswith(_RECOGNISER)

    def size_of(self, weight: Weight) -> int:
        """About how many bytes the objects of a weight will have."""
        contents = [(file, self.content_of(file)) for file in weight.files]
        return sum(
            file_size(content) if content else (file.size or 0) if self.fills else 0 for file, content in contents
        )

    def publish(self, weight: Weight) -> Weight:
        """Write all objects of a weight; returns its entry for a lock, with sizes and hashes of what was written."""
        if self._reduced and weight.role == "sdxl_config":
            weight = weight.model_copy(update={"files": [*weight.files, *_further_files(self._sdxl_sizes())]})
        files = []
        for file in weight.files:
            path = self._path_of(weight, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            sha256 = self._write(file, path)
            files.append(file.model_copy(update={"size": path.stat().st_size, "sha256": sha256}))
        source = weight.source
        if isinstance(source, UrlSource) and source.unpack:
            source = self._archive(weight, source)
        return weight.model_copy(update={"files": files, "source": source})

    def _path_of(self, weight: Weight, file: WeightFile) -> Path:
        """Where a file is written: its object in the mirror, or a draft of the archive's member."""
        for item in items_of(weight):
            if file in item.files:
                path = self._mirror / item.mirror_path
                return path.with_name(PurePosixPath(file.origin).name) if item.is_archive else path
        raise ValueError(file.path)

    def _write(self, file: WeightFile, path: Path) -> str:
        """Write a file; returns its SHA-256."""
        size, content = file.size if self.fills else None, self._contents.get(file.path)
        if content is not None and not file.converted:
            return write(path, content, self._draw, size)
        if content is not None:
            torch.save({key: torch.from_numpy(self._array(key, content)) for key in content.tensors}, path)
        elif path.suffix == ".onnx":
            self._write_face_network(path)
            _fill_onnx(path, size or 0)
        else:
            text = self._text(file)
            path.write_bytes(text + b" " * ((size or 0) - len(text)))
        return sha256_of(path)

    def _array(self, key: str, content: Content) -> Any:
        return self._draw.array(key, content.tensors[key], content.seed_of(key), content.scale)

    def _write_face_network(self, path: Path) -> None:
        if path.name.startswith("scrfd"):
            write_detector(path, _SEED, *([_NARROW_DETECTOR] if self._reduced else []))
        else:
            write_recogniser(path, _SEED, *([_NARROW_RECOGNISER] if self._reduced else []))

    def _text(self, file: WeightFile) -> bytes:
        """A tokenizer's file or a configuration."""
        path = PurePosixPath(file.path)
        if path.parent.name.startswith("tokenizer"):
            padding = _SECOND_PADDING if path.parent.name == "tokenizer_2" else END
            return published_tokenizer(padding)[path.name]
        if file.path.startswith(_SDXL_SIZES):
            return self._sdxl_sizes()[file.path]
        if not self._reduced:
            return (SD15 / path.parent.name / path.name).read_bytes()
        parts = self._networks.ic_light
        return _sizes_of({"unet": parts.unet, "vae": parts.vae, "text_encoder": parts.text_encoder}[path.parent.name])

    def _sdxl_sizes(self) -> dict[str, bytes]:
        """Configurations of narrow networks, by path: without them the loader takes SDXL's own sizes."""
        parts = self._networks.pulid
        networks = {"unet": parts.unet, "vae": parts.vae, "text_encoder": parts.clip_l, "text_encoder_2": parts.clip_g}
        sizes = {f"{_SDXL_SIZES}{name}/config.json": _sizes_of(network) for name, network in networks.items()}
        return sizes | {f"{_SDXL_SIZES}model_index.json": b"{}"}

    def _archive(self, weight: Weight, source: UrlSource) -> UrlSource:
        """Pack the written members, and one more that makes up for those that nobody uses."""
        (item,) = items_of(weight)
        path = self._mirror / item.mirror_path
        with zipfile.ZipFile(path, "w") as archive:
            for file in weight.files:
                draft = self._path_of(weight, file)
                archive.write(draft, file.origin, zipfile.ZIP_DEFLATED, compresslevel=1)
                draft.unlink()
        if self.fills:
            _fill_archive(path, source.size or 0)
        return source.model_copy(update={"size": path.stat().st_size, "sha256": sha256_of(path)})


def objects_size(mirror: Path, weight: Weight) -> int:
    """Bytes of the objects of a weight in the mirror."""
    return sum((mirror / item.mirror_path).stat().st_size for item in items_of(weight))


def unpublish(mirror: Path, weight: Weight) -> None:
    """Delete the objects of a weight of the shipped lock from the mirror."""
    for item in items_of(weight):
        (mirror / item.mirror_path).unlink()


def _further_files(texts: Mapping[str, bytes]) -> list[WeightFile]:
    return [WeightFile(path=path, origin=path.removeprefix(_SDXL_SIZES), sha256="unpinned") for path in texts]


def _sizes_of(network: Any) -> bytes:
    text: str = (
        network.config.to_json_string() if hasattr(network.config, "to_json_string") else network.to_json_string()
    )
    return text.encode()


def _fill_onnx(path: Path, size: int) -> None:
    """Bring an ONNX file to `size` bytes by a description of spaces; a larger file is left as it is."""
    missing = size - path.stat().st_size
    for length in range(max(missing - 8, 0), missing):
        field = bytes([_DOC_STRING << 3 | 2]) + _varint(length) + b" " * length
        if len(field) == missing:
            # Fields of a message may be appended: a reader takes the last of each.
            with path.open("ab") as file:
                file.write(field)
            return


def _varint(number: int) -> bytes:
    digits = []
    while True:
        number, digit = number >> 7, number & 0x7F
        digits.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(digits)


def _fill_archive(path: Path, size: int) -> None:
    """Bring an archive to `size` bytes by one more member, not compressed; a larger one is left as it is."""
    missing = size - path.stat().st_size - _MEMBER_HEADERS - 2 * len(_FILLER)
    if missing >= 0:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(_FILLER, bytes(missing))
