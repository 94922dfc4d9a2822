"""How much a request computes, seen on the meta device: networks of full size, without weights and in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

META = torch.device("meta")
TERA = 1e12
Calls = dict[str, list[tuple[int, ...]]]
"""Shape of the first input of every call of every network, in order."""


class ReadAsZero(TorchFunctionMode):
    """Tensors of the meta device hold nothing; where a request reads one back to the host, it gets zeros."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is Tensor.cpu and args[0].is_meta:
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        if func is Tensor.__bool__ and args[0].is_meta:
            return False
        return func(*args, **(kwargs or {}))


def teraflops(request: Callable[[], object]) -> float:
    """What matrix products, convolutions and attention of `request` cost; a multiplication with its sum counts 2."""
    with FlopCounterMode(display=False) as counter, ReadAsZero():
        request()
    return counter.get_total_flops() / TERA


@contextmanager
def recorded(networks: Mapping[str, nn.Module]):
    """Record the calls of `networks` into what is yielded."""
    calls: Calls = {name: [] for name in networks}

    def note(name: str) -> Callable[[nn.Module, tuple], None]:
        return lambda _, inputs: calls[name].append(tuple(inputs[0].shape))

    with ExitStack() as hooks:
        for name, network in networks.items():
            hooks.enter_context(network.register_forward_pre_hook(note(name)))
        yield calls
