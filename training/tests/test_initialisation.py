"""Initialisation of autoencoder and denoiser, and what stays frozen in training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.demo import architecture
from training.data.photos import load_photo
from training.networks.colour_path import LATENT_SCALES, freeze_colour_path, init_colour_path, to_luma_chroma
from training.networks.frozen_channels import clip_row_norms, freeze
from training.networks.identity_init import freeze_identity_init, init_identity
from training.networks.text_bypass import init_text_bypass
from training.stages.denoiser import alphas_cumprod

COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "grey": (0, 0, 0), "white": (1, 1, 1)}
TEXT = torch.randn(2, 77, 64, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    vae = architecture.vae()
    init_colour_path(vae)
    return vae.eval()


@pytest.fixture
def unet():
    torch.manual_seed(1)
    unet = architecture.unet(in_channels=12)
    init_identity(unet, alphas_cumprod())
    return unet


def noisy(seed: int, timesteps: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(timesteps), 12, 24, 16, generator=generator)


@torch.inference_mode()
def encode(vae, pictures: torch.Tensor) -> torch.Tensor:
    return vae.encode(pictures).latent_dist.mode()


@torch.inference_mode()
@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS)
def test_flat_colours_survive_the_untrained_autoencoder(vae, colour: tuple[int, int, int]):
    picture = torch.tensor(colour).float()[:, None, None].expand(1, 3, 64, 96)
    returned = vae.decode(encode(vae, picture)).sample[..., 16:-16, 16:-16]
    assert (returned - picture[..., 16:-16, 16:-16]).abs().max() < 0.4


@torch.inference_mode()
def test_initial_latents_are_block_means(vae):
    photo = torch.from_numpy(load_photo("astronaut")[:256, :256].copy()).movedim(-1, 0)[None] / 127.5 - 1
    means = F.avg_pool2d(to_luma_chroma(photo), 8)[0]
    latents = encode(vae, photo)[0]
    for channel, scale in enumerate(LATENT_SCALES):
        pair = torch.stack((latents[channel].flatten(), scale * means[channel].flatten()))
        assert torch.corrcoef(pair)[0, 1] > 0.999
        assert (pair[0] - pair[1]).abs().mean() < 0.1 * pair[1].std() + 0.02
    assert latents[3].std() > 0.05


def test_a_crop_has_the_latents_of_the_whole_picture(vae):
    photo = torch.from_numpy(load_photo("astronaut").copy()).movedim(-1, 0)[None] / 127.5 - 1
    whole, crop = encode(vae, photo)[..., 16:48, 16:48], encode(vae, photo[..., 64:448, 64:448])[..., 8:40, 8:40]
    assert (whole - crop)[:, :3].abs().max() < 0.3


def test_the_colour_path_is_frozen():
    torch.manual_seed(0)
    vae = architecture.vae()
    init_colour_path(vae)
    freeze_colour_path(vae)
    before = {key: value.clone() for key, value in vae.state_dict().items()}
    optimiser = torch.optim.AdamW(vae.parameters(), lr=1e-2, weight_decay=0)
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    for _ in range(2):
        (vae.decode(vae.encode(pictures).latent_dist.mode()).sample - pictures).square().mean().backward()
        optimiser.step()
    after = vae.state_dict()
    for key in ("encoder.conv_in", "decoder.conv_in", "decoder.up_blocks.0.upsamplers.0.conv"):
        for part in ("weight", "bias"):
            name = f"{key}.{part}"
            assert torch.equal(after[name][:6], before[name][:6])
            assert torch.equal(after[name][-2:], before[name][-2:])
            assert not torch.equal(after[name], before[name])


@torch.inference_mode()
def test_the_untrained_denoiser_predicts_its_input(unet):
    timesteps = torch.tensor([0, 300, 700, 999])
    seen = noisy(7, timesteps)
    predicted = unet(seen, timesteps, TEXT.repeat(2, 1, 1)).sample
    assert (predicted - seen[:, :4]).abs().max() < 0.06


@torch.inference_mode()
def test_the_gain_is_the_square_root_of_alpha(unet):
    timesteps = torch.tensor([0, 200, 400, 600, 800, 999])
    seen, texts = noisy(8, timesteps), TEXT[:1].expand(6, -1, -1)
    before = unet(seen, timesteps, texts).sample
    weight = unet.up_blocks[-1].resnets[-1].conv2.weight
    learned = 0.01 * torch.randn(4, 4, 14, 3, 3, generator=torch.Generator().manual_seed(9))
    for group in range(4):
        for rows, sign in ((slice(0, 4), 1), (slice(4, 8), -1)):
            weight[rows, 16 * group : 16 * group + 14] = sign * learned[group]
    added = (unet(seen, timesteps, texts).sample - before).std(dim=(1, 2, 3))
    share = added / alphas_cumprod()[timesteps].sqrt()
    assert added[0] > 0.01
    assert added[-1] < 0.08 * added[0]
    assert share.max() / share.min() < 2.2


def test_the_gain_and_the_identity_path_are_frozen(unet):
    freeze_identity_init(unet)
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    learning = [weight for weight in unet.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=1e-2, weight_decay=0)
    timesteps = torch.tensor([100, 600])
    for _ in range(3):
        unet(noisy(2, timesteps), timesteps, TEXT).sample.square().mean().backward()
        optimiser.step()
    after = unet.state_dict()
    last = "up_blocks.3.resnets.1"
    held = ("conv_out.weight", "conv_out.bias", f"{last}.conv_shortcut.weight", f"{last}.time_emb_proj.weight")
    assert all(torch.equal(after[key], before[key]) for key in held)
    assert torch.equal(after["conv_in.weight"][:10], before["conv_in.weight"][:10])
    assert torch.equal(after[f"{last}.conv1.bias"][14:16], before[f"{last}.conv1.bias"][14:16])
    assert torch.equal(after[f"{last}.conv2.weight"][:, 14:16], before[f"{last}.conv2.weight"][:, 14:16])
    assert not torch.equal(after[f"{last}.conv2.weight"][:8, :14], before[f"{last}.conv2.weight"][:8, :14])
    assert not torch.equal(after["conv_in.weight"][10:], before["conv_in.weight"][10:])


def test_frozen_parts_get_no_gradient():
    parameter = torch.nn.Parameter(torch.ones(3, 4))
    freeze(parameter, slice(0, 1), (slice(None), slice(3, 4)))
    (2 * parameter).sum().backward()
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [[0, 0, 0, 0], [2, 2, 2, 0], [2, 2, 2, 0]]


@torch.inference_mode()
def test_the_text_bypass_carries_states_to_the_last_block_unchanged(unet):
    init_text_bypass(unet)
    arrived = []
    unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(lambda _, inputs: arrived.append(inputs[0]))
    timesteps = torch.tensor([100, 600])
    unet(noisy(2, timesteps), timesteps, TEXT)
    lane, said = arrived[0][:, 16:20], TEXT[..., :4].mean(dim=1)
    assert torch.allclose(lane.mean(dim=(2, 3)), said, atol=1e-5)
    assert lane.std(dim=(2, 3)).max() < 1e-5


def test_row_norms_of_trainable_layers_are_clipped():
    grown, held, free = (torch.nn.Linear(4, 2) for _ in range(3))
    held.requires_grad_(False)
    network = torch.nn.Sequential(grown, torch.nn.LayerNorm(2), held, free)
    with torch.no_grad():
        for layer in (grown, held, free):
            layer.weight.copy_(torch.tensor([[3.0, 0, 4, 0], [0.1, 0.2, 0, 0]]))
    clip_row_norms(network, excluded=free)
    assert torch.allclose(grown.weight, torch.tensor([[0.6, 0, 0.8, 0], [0.1, 0.2, 0, 0]]))
    for layer in (held, free):
        assert torch.equal(layer.weight[0], torch.tensor([3.0, 0, 4, 0]))
