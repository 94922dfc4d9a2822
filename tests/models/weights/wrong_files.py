"""Files that are not what their name says, in the kinds that reach an operator's folder."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file, save

HTML = b'<!DOCTYPE html>\n<html lang="en"><head><title>Sign in</title></head>\n<body>Please log in.</body></html>\n'
CHANCE = np.random.default_rng(20_260_101).bytes(5000)
LORA = {
    "lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight": torch.ones(4, 16),
    "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(16, 4),
}


def truncated(original: Path) -> bytes:
    data = original.read_bytes()
    return data[: len(data) * 2 // 3]


def pickled(original: Path) -> bytes:
    out = io.BytesIO()
    torch.save(load_file(original) if original.suffix == ".safetensors" else {"a": torch.ones(2)}, out)
    return out.getvalue()


def other_structure(original: Path) -> bytes:
    return b'[{"a": 1}, null]' if original.name == "config.json" else b'{"a": {"b": [1, 2]}, "c": null}'


def of_another_network(original: Path) -> bytes:
    """A sound file of the same format, for something else."""
    if original.suffix == ".onnx":
        return network("Identity", [1, 4])
    if original.suffix == ".safetensors":
        return save({"encoder.weight": torch.ones(3, 3), "encoder.bias": torch.zeros(3)}, {"format": "pt"})
    if original.name == "merges.txt":
        return b"#version: 0.2\nz z</w>\n"
    return json.dumps({"zz": 0, "a": 1, "<|endoftext|>": 2}).encode()


def network(operator: str, shape: list[int]) -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "other", values[:1], values[1:])
    return onnx.ModelProto.SerializeToString(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    )


def lacking(original: Path) -> bytes:
    """Without one of its tensors, or without its last lines, or without one value."""
    if original.suffix == ".safetensors":
        state = load_file(original)
        del state[sorted(key for key in state if key.endswith("weight"))[-1]]
        return save(state, {"format": "pt"})
    if original.suffix == ".onnx":
        model = onnx.load(original)
        del model.graph.node[len(model.graph.node) // 2]
        return model.SerializeToString()
    if original.suffix == ".json":
        content = json.loads(original.read_text())
        return json.dumps(dict(list(content.items())[: len(content) // 2])).encode()
    return b"\n".join(original.read_bytes().split(b"\n")[:-9])


def of_another_shape(original: Path) -> bytes:
    if original.suffix == ".safetensors":
        state = load_file(original)
        key = sorted(key for key, tensor in state.items() if key.endswith("weight"))[0]
        state[key] = torch.cat((state[key], state[key]))
        return save(state, {"format": "pt"})
    if original.suffix == ".onnx":
        return network("Relu", [1, 3, 192, 192])
    if original.suffix == ".json":
        content = json.loads(original.read_text())
        doubled = {key: 2 * value if type(value) is int else value for key, value in content.items()}
        return json.dumps(doubled).encode()
    return original.read_bytes() * 2


def of_whole_numbers(original: Path) -> bytes:
    if original.suffix == ".safetensors":
        state = load_file(original)
        key = sorted(key for key, tensor in state.items() if tensor.is_floating_point() and tensor.ndim > 1)[1]
        state[key] = state[key].to(torch.int32)
        return save(state, {"format": "pt"})
    if original.suffix == ".onnx":
        return of_another_network(original).replace(b"Identity", b"NoSuchOp")
    return b"\x00\x01\x02\x03"


def headed(_original: Path) -> bytes:
    """The head of a .safetensors file that promises more than there is."""
    head = json.dumps({"a": {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}}).encode()
    return struct.pack("<Q", len(head)) + head


def text_in_latin_1(_original: Path) -> bytes:
    return "Zugriff verweigert: ungültige Größe".encode("latin-1")


KINDS: Mapping[str, Callable[[Path], bytes]] = {
    "a web page": lambda original: HTML,
    "nothing": lambda original: b"",
    "zeros": lambda original: bytes(min(original.stat().st_size, 1 << 20)),
    "chance": lambda original: CHANCE,
    "cut off": truncated,
    "a pickle": pickled,
    "JSON of another structure": other_structure,
    "another network": of_another_network,
    "something lacking": lacking,
    "another shape": of_another_shape,
    "whole numbers": of_whole_numbers,
    "a head of more than there is": headed,
    "text in Latin-1": text_in_latin_1,
    "a LoRA": lambda original: save(LORA),
}
"""By what lies there instead, as a function of the file that should."""
