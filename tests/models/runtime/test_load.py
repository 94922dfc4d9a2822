"""How much memory loading takes: measured in processes of their own, which read files much larger than the demo's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from models.demo.original_keys import unet_state
from models.errors import WeightsError
from models.runtime.load import empty, fill
from models.weights.installed import WeightSet

CPU = torch.device("cpu")
MEASURE = """
import sys, threading, time
from pathlib import Path
import torch
from models.pulid_lightning.checkpoints import load_checkpoint
from models.pulid_lightning.single_file import SingleFile
from models.weights.folder import Folder

def private():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024

def load(config, path):
    return load_checkpoint(SingleFile(Path(path), Folder.as_found(Path(config))), torch.device("cpu"))

load(*sys.argv[1:3])  # imports and thread pools are no weights
before, peak, done = private(), 0, threading.Event()

def watch():
    global peak
    while not done.is_set():
        peak = max(peak, private())
        time.sleep(0.001)

watcher = threading.Thread(target=watch)
watcher.start()
loaded = load(*sys.argv[3:5])
done.set()
watcher.join()
print(before, peak, private())
"""


def test_a_network_without_storage_is_filled_exactly():
    network = empty(lambda: torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)))
    assert next(network.parameters()).is_meta
    state = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).state_dict()
    fill(network, {key: value.clone() for key, value in state.items()}, CPU, torch.float16)
    assert {key: value.dtype for key, value in network.state_dict().items()} == {
        key: torch.float16 if value.is_floating_point() else torch.int64 for key, value in state.items()
    }
    assert torch.equal(network[0].weight, state["0.weight"].half())
    assert not network.training
    for wrong in ({"0.weight": state["0.weight"]}, {**state, "2.weight": torch.ones(1)}):
        with pytest.raises(WeightsError, match=r"lacks tensors|the network lacks: 2\.weight"):
            fill(network, wrong, CPU, torch.float32)


@pytest.fixture(scope="module")
def wide(demo_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Configuration and file of a checkpoint like the demo's with a UNet of about 400 MB in half precision."""
    weights, folder = WeightSet.open(demo_weights, "pulid-lightning"), tmp_path_factory.mktemp("wide")
    config = shutil.copytree(weights["sdxl_config"], folder / "config", ignore=shutil.ignore_patterns("unet"))
    sizes = json.loads((weights["sdxl_config"] / "unet" / "config.json").read_text())
    sizes |= {"block_out_channels": [320, 640, 640, 640, 640]}
    (config / "unet").mkdir()
    (config / "unet" / "config.json").write_text(json.dumps(sizes))
    with torch.device("meta"):
        shapes = UNet2DConditionModel.from_config(sizes).state_dict()
    state = load_file(weights["sdxl_checkpoint_default"])
    state |= unet_state({key: torch.full(value.shape, 0.5, dtype=torch.float16) for key, value in shapes.items()})
    save_file(state, folder / "wide.safetensors")
    return config, folder / "wide.safetensors"


@pytest.mark.slow
def test_a_checkpoint_is_never_twice_in_memory(demo_weights: Path, wide: tuple[Path, Path]):
    small = demo_weights / "sdxl" / "config", demo_weights / "sdxl" / "default.safetensors"
    file = wide[1]
    assert file.stat().st_size > 350e6
    command = [sys.executable, "-c", MEASURE, *map(str, (*small, *wide))]
    measured = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert measured.returncode == 0, measured.stderr
    before, peak, after = map(int, measured.stdout.split())
    assert after - before > 1.9 * file.stat().st_size, "single precision is what stays on a CPU"
    assert peak - before < 1.15 * (after - before)
