"""What only a GPU can show: CUDA graphs, Triton kernels, attention at real widths, half precision, float8 products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from bench.full_size.networks import ic_light_parts, ic_light_pipeline, pulid_parts, pulid_pipeline, pulid_unet
from bench.full_size.workloads import ignore_step, prepare_ic_light, prepare_pulid
from models.ic_light.vae import decode_picture, encode_pictures
from models.pipeline import ExecutionReport
from models.pulid_lightning.attention import IdentityContext, attend_with_identity
from models.pulid_lightning.checkpoints import OffloadedWeights
from models.runtime.fp8 import Float8Linear
from models.runtime.load import for_device
from models.runtime.precision import accumulate_in_half
from models.runtime.runner import EAGER, Execution, Runner, execution_for
from models.runtime.tree import Pytree, tree_map
from models.runtime.unet import TextContext, attention
from models.runtime.vae_attention import attend_in_chunks, vae_for_device
from tests.models.runtime.networks import graphs, predict, sdxl, unet_inputs
from workers.engine.model_loader import set_up_cuda

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """As a worker sets the device up, but float32 in full, so that rounding can be told from mistakes."""
    set_up_cuda(CUDA)
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


def test_sums_in_float16_are_nearly_those_in_float32() -> None:
    before = torch.backends.cuda.matmul.allow_fp16_accumulation
    a, b = torch.randn(2, 512, 512).half().to(CUDA)
    try:
        accumulate_in_half(CUDA)
        found = (a @ b).float()
    finally:
        torch.backends.cuda.matmul.allow_fp16_accumulation = before
    exact = a.float() @ b.float()
    assert (found - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("width", [40, 64, 80, 160])
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_attention_at_the_widths_of_both_unets(width: int, masked: bool) -> None:
    torch.manual_seed(1)
    query, key, value = (torch.randn(2, tokens, 4 * width) for tokens in (300, 77, 77))
    bias = None
    if masked:
        bias = torch.zeros(2, 1, 1, 77)
        bias[1, ..., 50:] = -torch.inf
    expected = attention(query, key, value, 4, bias)
    query, key, value = (tensor.half().to(CUDA) for tensor in (query, key, value))
    found = attention(query, key, value, 4, None if bias is None else bias.half().to(CUDA))
    torch.testing.assert_close(found.float().cpu(), expected, rtol=0, atol=4e-3)


@pytest.fixture
def vaes() -> tuple[Any, Any]:
    """The same VAE on the CPU in float32 and on the GPU; its one head is as wide as the real one's."""
    torch.manual_seed(3)
    sizes = {"block_out_channels": (32, 512), "layers_per_block": 1, "latent_channels": 4}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    cpu, cuda = (AutoencoderKL(**sizes, **blocks).eval().requires_grad_(False) for _ in range(2))
    cuda.load_state_dict(cpu.state_dict())
    return cpu, cuda


@pytest.mark.parametrize("compile_", ["off", "on"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_vae_in_half_precision(vaes: tuple[Any, Any], dtype: torch.dtype, compile_: Any) -> None:
    """Captured as it is and compiled: pictures are those of float32, but for rounding."""
    cpu, cuda = vaes
    vae_for_device(nn.Module.to(cuda, CUDA, dtype), CUDA)
    picture, latents = torch.randint(256, (1, 64, 96, 3), dtype=torch.uint8), torch.randn(1, 4, 32, 48)
    for function, given in ((encode_pictures, picture), (decode_picture, latents)):
        runner: Runner[Any] = Runner(function, execution_for(CUDA, compile_))
        runner.capture(cuda, given.to(CUDA))
        assert runner.mode == "captured"
        found, expected = runner(cuda, given.to(CUDA)), function(cpu, given)
        if function is decode_picture:
            assert not found.non_finite.any()
            difference = (found.pictures.cpu().int() - expected.pictures.int()).abs().float().mean()
            assert difference < 2, "levels of 255"
        else:
            assert (found.float().cpu() - expected).norm() < 0.05 * expected.norm()


def check_pictures(ours: Any, eager: Any, prepare: Callable[..., Any], **changes: Any) -> None:
    """Pictures of a warm pipeline are those of an eager one, but for rounding."""
    (found,), (expected,) = (pipeline.run([prepare(pipeline, **changes)], ignore_step) for pipeline in (ours, eager))
    assert np.abs(found.astype(int) - expected).mean() < 1, "levels of 255"


def test_whole_portraits_of_captured_and_of_other_sizes() -> None:
    parts = pulid_parts(CUDA, reduced=True)
    others = {"artistic": pulid_unet(CUDA, reduced=True, dtype=parts.unet.dtype)}
    captured, eager = (pulid_pipeline(parts, execution, others) for execution in (execution_for(CUDA, "off"), EAGER))
    captured.warm_up()
    assert captured.execution == ExecutionReport("captured")
    for checkpoint in ("default", "artistic", "default"):
        check_pictures(captured, eager, prepare_pulid, checkpoint_model=checkpoint)
    check_pictures(captured, eager, prepare_pulid, width=520, height=776, face_style="stylized")
    check_pictures(captured, eager, prepare_pulid, width=512, height=512, number_of_images=2, prompt="word " * 100)


def test_whole_scenes_of_captured_and_of_other_sizes() -> None:
    parts = ic_light_parts(CUDA, reduced=True)
    captured, eager = (ic_light_pipeline(parts, execution) for execution in (execution_for(CUDA, "off"), EAGER))
    captured.warm_up()
    assert captured.execution == ExecutionReport("captured")
    for changes in ({}, {"width": 576, "height": 448}, {"cfg": 1, "light_source": "Left Light"}, {}):
        check_pictures(captured, eager, prepare_ic_light, steps=4, **changes)


def halves(seed: int) -> nn.Module:
    """A small UNet as it is served."""
    torch.manual_seed(seed)
    return for_device(sdxl().to(CUDA, torch.float16), CUDA)


def test_weights_loaded_between_two_replays_count() -> None:
    first, second = halves(5), halves(6)
    runner = Runner(predict, execution_for(CUDA, "off"))
    given = tree_map(lambda tensor: tensor.half().to(CUDA), unet_inputs(sdxl(), 2, 16, 16, 9))
    expected = [Runner(predict)(unet, *given) for unet in (first, second)]
    kept = [OffloadedWeights(unet.state_dict(), torch.float16, CUDA) for unet in (first, second)]
    runner.capture(first, *given)
    for number in (0, 1, 0, 1):
        kept[number].load_into(first)
        torch.testing.assert_close(runner(first, *given), expected[number], rtol=1e-3, atol=1e-3)


def test_host_memory_that_cannot_be_page_locked_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The runtime keeps a refusal as its last error, which the next launch would report."""
    real, first, second = torch.cuda.cudart(), halves(7), halves(8)
    refusing = SimpleNamespace(cudaHostRegister=lambda *_arguments: real.cudaHostRegister(0, 0, 0))
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "cudart", lambda: refusing)
        kept = OffloadedWeights(second.state_dict(), torch.float16, CUDA)
    assert "cannot be page-locked" in caplog.text
    assert torch.ones(3, device=CUDA).add_(1).sum().item() == 6
    kept.load_into(first)
    for found, expected in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(found, expected)


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
    # Compiled, an averaged weight takes the kernel.
    for attend in (attend_with_identity, torch.compile(attend_with_identity, fullgraph=True)):
        found = attend(query.to(CUDA), on_gpu, heads)
        assert (found.float().cpu() - expected).norm() < 0.01 * expected.norm()
