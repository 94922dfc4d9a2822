"""Tensors of files: what their headers tell, and their numbers, wherever and in whatever type they are wanted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.errors import WeightsError
from models.runtime import tensor_file
from models.runtime.tensor_file import Reading, StoredTensor, open_tensors, read, read_all

LARGE = 3_000_017
"""Numbers that take several pieces, the last one short."""
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    torch.manual_seed(5)
    made = {str(dtype): (3 * torch.randn(7, 5)).to(dtype) for dtype in DTYPES}
    made |= {"large": torch.randn(LARGE).half(), "wide": torch.randn(48, 32, 1, 1).half()}
    return made | {"scalar": torch.tensor(2.5), "empty": torch.empty(0, 3), "odd": torch.arange(3, dtype=torch.uint8)}


@pytest.fixture(scope="module")
def path(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file: Path = tmp_path_factory.mktemp("tensors") / "file.safetensors"
    save_file(tensors, file, {"format": "pt"})
    return file


def test_the_header_tells_names_types_and_shapes_and_nothing_is_read(
    tensors: dict[str, Tensor], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "preadv", None)
    stored = open_tensors(path)
    assert {(name, it.shape, it.dtype) for name, it in stored.items()} == {
        (name, it.shape, it.dtype) for name, it in tensors.items()
    }
    assert all(it.is_meta for it in stored.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_are_cast_as_torch_casts_them(tensors: dict[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    stored = open_tensors(path)
    places = {name: torch.empty(it.shape, dtype=dtype) for name, it in tensors.items()}
    read_all(Reading(places[name], (it,)) for name, it in stored.items())
    for name, expected in tensors.items():
        assert torch.equal(places[name], expected.to(dtype)), name
        assert torch.equal(read(stored[name]), expected), name


def test_every_byte_is_read_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    genuine = os.preadv

    def counting(*given: object) -> int:
        counts.append(genuine(*given))  # type: ignore[arg-type]
        return counts[-1]

    monkeypatch.setattr(os, "preadv", counting)
    stored = open_tensors(path)
    read_all(Reading(torch.empty(it.shape, dtype=it.dtype), (it,)) for it in stored.values())
    assert sum(counts) == sum(it.numel() * it.dtype.itemsize for it in stored.values())


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows": lambda it: it[3:9],
    "columns": lambda it: it[:, 4:7],
    "a copy of rows": lambda it: it[5:, :].clone().detach(),
    "transposed": lambda it: it[:, :, 0, 0].T.contiguous(),
    "without its last dimensions": lambda it: it[:, :, 0, 0],
    "of another shape": lambda it: it.reshape(32, 48)[2:],
    "one number": lambda it: it.view(-1)[7],
    "no number": lambda it: it[5:5],
    "permuted": lambda it: it[None].permute(2, 0, 1, 4, 3),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad])
def test_views_are_read_from_their_own_places(
    tensors: dict[str, Tensor], path: Path, view: Callable[[Tensor], Tensor], mode: Callable[[], object]
) -> None:
    with mode():  # type: ignore[attr-defined]
        stored, expected = view(open_tensors(path)["wide"]), view(tensors["wide"])
        place = torch.empty(expected.shape)
        read_all([Reading(place, (stored,))])
        assert torch.equal(place, expected.float())
        assert torch.equal(read(stored), expected)


def test_what_was_computed_is_no_tensor_of_a_file(path: Path) -> None:
    stored = open_tensors(path)["wide"]
    for made in (stored + 1, stored.float(), torch.cat((stored, stored))):
        assert isinstance(made, StoredTensor)
        with pytest.raises(TypeError, match="not one of a file"):
            read(made)


def test_two_are_combined_piece_by_piece(tensors: dict[str, Tensor], path: Path) -> None:
    stored, sizes = open_tensors(path)["large"], []

    def difference(first: Tensor, second: Tensor) -> Tensor:
        sizes.append(first.nbytes)
        return first.float() - 2 * second.float()

    place = torch.empty(LARGE)
    read_all([Reading(place, (stored, stored), difference)])
    assert torch.equal(place, -tensors["large"].float())
    assert len(sizes) > 1
    assert max(sizes) <= tensor_file._PIECE


def test_a_file_that_becomes_shorter_is_told(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "file")
    stored = open_tensors(tmp_path / "file")
    os.truncate(tmp_path / "file", (tmp_path / "file").stat().st_size - 4)
    with pytest.raises(WeightsError, match="became shorter"):
        read_all(Reading(torch.empty(it.shape), (it,)) for it in stored.values())


def test_the_file_that_was_opened_is_read_though_another_takes_its_place(
    tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "file")
    stored = open_tensors(tmp_path / "file")
    save_file({"large": torch.zeros(3)}, tmp_path / "another")
    (tmp_path / "another").replace(tmp_path / "file")
    assert torch.equal(read(stored["large"]), tensors["large"])


def test_files_are_closed(path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        open_tensors(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_unknown_type_is_named(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F8_E8M0","shape":[4],"data_offsets":[0,4]}}'
    (tmp_path / "file").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(WeightsError, match="a is of type F8_E8M0"):
        open_tensors(tmp_path / "file")
