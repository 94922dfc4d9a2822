"""What only a GPU can show: CUDA graphs, Triton kernels, float8 products."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from models.pulid_lightning.attention import IdentityContext, attend_with_identity
from models.runtime.fp8 import Float8Linear
from models.runtime.load import for_device
from models.runtime.runner import Execution, Runner, execution_for
from models.runtime.tree import Pytree, tree_map
from models.runtime.unet import TextContext
from models.runtime.vae_attention import attend_in_chunks
from tests.models.runtime.networks import graphs, predict, sdxl, unet_inputs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Float32 in full, so that rounding can be told from mistakes."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


def inputs(unet: nn.Module, *sizes: int) -> tuple[Pytree, ...]:
    """Inputs of `predict`, on the GPU."""
    on_cpu = unet_inputs(unet, *sizes)
    with torch.inference_mode():
        return tree_map(lambda tensor: tensor.to(CUDA), on_cpu)


def check(runner: Runner[torch.Tensor], cpu: nn.Module, cuda: nn.Module, *sizes: int) -> None:
    """A GPU's noise is the CPU's."""
    given = inputs(cpu, *sizes)
    with torch.inference_mode():
        expected = predict(cpu, *tree_map(lambda tensor: tensor.cpu(), given))
    torch.testing.assert_close(runner(cuda, *given).cpu(), expected, rtol=1e-3, atol=1e-4)


@pytest.fixture
def unets() -> tuple[nn.Module, nn.Module]:
    """The same UNet on the CPU and on the GPU."""
    cpu, cuda = sdxl(), sdxl()
    cuda.load_state_dict(cpu.state_dict())
    return cpu, for_device(cuda.to(CUDA), CUDA)


def test_captured_graphs_share_memory_and_keep_their_results_apart(unets: tuple[nn.Module, nn.Module]) -> None:
    cpu, cuda = unets
    runner = Runner(predict, execution_for(CUDA, "off"))
    first, second = (2, 8, 8, 5), (4, 16, 12, 9)
    for sizes in (first, second):
        runner.capture(cuda, *inputs(cpu, *sizes))
    for sizes in (first, second, first, first, second):
        check(runner, cpu, cuda, *sizes)
    given = inputs(cpu, *first)
    kept = runner(cuda, *given)
    copy = kept.clone()
    check(runner, cpu, cuda, *second)
    assert torch.equal(kept, copy)
    assert torch.equal(runner(cuda, *given), copy)


def test_compiled_kernels_serve_all_sizes_and_captured_ones(unets: tuple[nn.Module, nn.Module]) -> None:
    cpu, cuda = unets
    chosen = execution_for(CUDA, "on")
    runner = Runner(predict, Execution(chosen.compiler, chosen.capturer, "fail_on_recompile"))
    runner.compile(cuda, inputs(cpu, 2, 10, 14, 5), inputs(cpu, 3, 13, 18, 8))
    runner.capture(cuda, *inputs(cpu, 2, 16, 16, 7))
    assert graphs() == 2
    for sizes in ((2, 16, 16, 7), (2, 9, 9, 77), (5, 20, 11, 5), (2, 16, 16, 7)):
        check(runner, cpu, cuda, *sizes)
    assert graphs() == 2


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 9), reason="has no float8"
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_float8_on_the_gpu_is_what_the_cpu_says(dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    layer = Float8Linear(nn.Linear(640, 320).to(dtype))
    x = torch.randn(2, 77, 640, dtype=dtype)
    with torch.inference_mode():
        expected = layer(x).float()
        found = layer.to(CUDA)(x.to(CUDA)).float().cpu()
    # Rows are rounded alike but for ties; the sum is given in bfloat16.
    assert (found - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_attention_in_chunks_of_half_precision_is_that_of_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    query, key, value = torch.randn(3, 2, 300, 512, dtype=dtype)
    expected = attend_in_chunks(query.float(), key.float(), value.float(), 2**26)
    found = attend_in_chunks(query.to(CUDA), key.to(CUDA), value.to(CUDA), 2 * 300 * 70)
    assert (found.float().cpu() - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("width", [640, 1280])
@pytest.mark.parametrize("per_query", [False, True])
def test_attention_to_an_identity_of_half_precision_is_that_of_float32(width: int, per_query: bool) -> None:
    torch.manual_seed(5)
    heads = width // 64
    query, *texts = torch.randn(3, 2, 77, width).half()
    key, value = torch.randn(2, 2, 18, width).half()
    mask = torch.full((heads if per_query else 1, 1, 18), -1.0)
    mask[..., :5] = 0
    on_cpu = IdentityContext(TextContext(*texts), key / 8, value, mask)
    on_gpu = tree_map(lambda tensor: tensor.to(CUDA), on_cpu)
    in_full = tree_map(torch.Tensor.float, on_cpu)
    expected = attend_with_identity(query.float(), in_full, heads)
    found = attend_with_identity(query.to(CUDA), on_gpu, heads)
    assert (found.float().cpu() - expected).norm() < 0.01 * expected.norm()
