"""Pickles become safetensors; what is more than tensors is never executed."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from cli.weights.install import convert
from models.errors import WeightFileError, WeightsError
from tests.models.weights.wrong_files import CHANCE, HTML

STATE = {"b.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}


def zipped(name: str) -> bytes:
    """A zip of one empty file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, b"")
    return out.getvalue()


class Executed:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self._trace),)


def converted(state: object, folder: Path, **options: object) -> Path:
    torch.save(state, folder / "in.pth", **options)
    convert(folder / "in.pth", folder / "out.safetensors", "in.pth")
    return folder / "out.safetensors"


def assert_equal(path: Path, expected: dict[str, torch.Tensor]) -> None:
    found = load_file(path)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype and torch.equal(found[key], tensor), key


def test_tensors_arrive_as_they_are(tmp_path: Path):
    path = converted(STATE, tmp_path)
    assert_equal(path, STATE)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("wrapped", [{"state_dict": STATE}, {"state_dict": STATE, "epoch": 3}])
def test_a_state_dict_is_taken_out_of_its_wrapping(tmp_path: Path, wrapped: dict[str, object]):
    assert_equal(converted(wrapped, tmp_path), STATE)


def test_the_old_format_is_read_too(tmp_path: Path):
    assert_equal(converted(STATE, tmp_path, _use_new_zipfile_serialization=False), STATE)


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path):
    first = converted(STATE, tmp_path).read_bytes()
    assert converted(dict(reversed(STATE.items())), tmp_path).read_bytes() == first


def test_views_and_shared_tensors_get_memory_of_their_own(tmp_path: Path):
    whole = torch.arange(12.0).view(3, 4)
    state = {"whole": whole, "same": whole, "part": whole[1:], "turned": whole.T, "tied": torch.nn.Parameter(whole)}
    assert_equal(converted(state, tmp_path), state)


@pytest.mark.parametrize("content", [{"a": 1}, [torch.ones(1)], {"a": {"b": torch.ones(1)}}])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object):
    with pytest.raises(WeightsError, match=r"in\.pth: it holds more than a state dict"):
        converted(content, tmp_path)


def test_code_in_a_pickle_is_not_run(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"in\.pth: not a pickle of tensors alone \(posix\.mkdir\)"):
        converted({"a": torch.ones(1), "b": Executed(tmp_path / "trace")}, tmp_path)
    assert not (tmp_path / "trace").exists()
    assert not (tmp_path / "out.safetensors").exists()


GARBAGE = {
    "a web page": HTML,
    "nothing": b"",
    "words": b"no pickle",
    "zeros": bytes(4096),
    "chance": CHANCE,
    "tensors in another format": save({"a": torch.ones(2)}),
    "JSON": b'{"a": [1, 2]}',
    "a zip of something else": zipped("photo.txt"),
    "a zip of an empty pickle": zipped("archive/data.pkl"),
    "an array": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_something_else_altogether_is_refused(tmp_path: Path, name: str):
    refused(GARBAGE[name], tmp_path)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_pickle_that_is_cut_off_is_refused(tmp_path: Path, options: dict[str, bool], share: float):
    torch.save(STATE, out := io.BytesIO(), **options)
    refused(out.getvalue()[: int(share * len(out.getvalue()))], tmp_path)


def test_a_pickle_of_something_else_is_refused_and_not_run(tmp_path: Path):
    refused(pickle.dumps(Executed(tmp_path / "trace")), tmp_path)
    assert not (tmp_path / "trace").exists()


def refused(content: bytes, folder: Path) -> None:
    """Nothing comes of the content, and the reason is one line, without torch's advice."""
    (folder / "in.pth").write_bytes(content)
    with pytest.raises(WeightFileError, match=r"^in\.pth: .") as caught:
        convert(folder / "in.pth", folder / "out.safetensors", "in.pth")
    assert not re.search("weights_only|trust|add_safe_globals|arbitrary|\n", str(caught.value))
    assert not (folder / "out.safetensors").exists()
