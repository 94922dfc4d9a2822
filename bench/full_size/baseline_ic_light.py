"""`ic-light` without our own forward pass: what ours is measured and checked against.

Diffusers' UNet, scheduler and VAE as its own pipelines use them, after IC-Light specification sections 3 to 11. The way
`reference` has the VAE in float32, `diffusers` in our precision. Without a light source, guided, texts of one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DPMSolverMultistepScheduler
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

_GREY: Final = 127


@dataclass(frozen=True)
class IcLightRequest:
    """A request that is ready for the networks.

    `subject` [height, width, 3], 8 bit; `feed` the same at the matting network's size; `text` [2, 77, width], the
    negative row first. `size` and `final` are (width, height) in px of the first and the second pass.
    """

    subject: NDArray[np.uint8]
    feed: NDArray[np.uint8]
    text: Tensor
    size: tuple[int, int]
    final: tuple[int, int]
    steps: int
    guidance: float
    highres_denoise: float
    pictures: int
    seed: int


@dataclass(frozen=True)
class Parts:
    """The networks: a UNet of 8 channels in `dtype`, an autoencoder, a matting network [1, 3, h, w] to [1, 1, h, w]."""

    unet: Callable[..., Any]
    dtype: torch.dtype
    vae: Any
    matting: Callable[[Tensor], Tensor]


def relight(parts: Parts, request: IcLightRequest, first_latents: list[Tensor] | None = None) -> Tensor:
    """Both passes: latents [n, 4, h, w] of the second one; those of the first are put into `first_latents`."""
    device = request.text.device
    generator = torch.Generator(device).manual_seed(request.seed)
    foreground = _cut_out(parts.matting, request)
    small = _draw(parts, request, foreground, request.size, None, generator)
    if first_latents is not None:
        first_latents.append(small)
    pictures = [
        Image.fromarray(picture).resize(request.final, Image.Resampling.LANCZOS) for picture in decode(parts.vae, small)
    ]
    start = encode(parts.vae, [np.asarray(picture) for picture in pictures])
    return _draw(parts, request, foreground, request.final, start, generator)


def encode(vae: Any, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures of one size to latents [n, 4, h, w], in the VAE's precision (specification section 5)."""
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / _GREY - 1
    latents: Tensor = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
    return latents * float(vae.config.scaling_factor)


def decode(vae: Any, latents: Tensor) -> NDArray[np.uint8]:
    """Latents to pictures [n, 8h, 8w, 3], 8 bit, one after the other."""
    decoded = [vae.decode((row / vae.config.scaling_factor).to(vae.dtype)).sample for row in latents[:, None]]
    levels = (torch.cat(decoded).float() * 127.5 + 127.5).clip(0, 255)
    pictures: NDArray[np.uint8] = levels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pictures


def embed(ids: Tensor, text_encoder: Any) -> Tensor:
    """Token ids [rows, 77] to embeddings [rows, 77, width] (specification section 6)."""
    embedded: Tensor = text_encoder(ids).last_hidden_state
    return embedded


def scheduler_at(length: int, begin: int, device: torch.device) -> Any:
    """Specification section 8, standing at step `begin` of `length`."""
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        algorithm_type="sde-dpmsolver++",
        use_karras_sigmas=True,
        steps_offset=1,
    )
    scheduler.set_timesteps(length, device=device)
    scheduler.set_begin_index(begin)
    return scheduler


def _draw(
    parts: Parts,
    request: IcLightRequest,
    foreground: NDArray[np.uint8],
    size: tuple[int, int],
    start: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    """One pass (specification sections 9 and 11): from noise, or from `start`, to latents [n, 4, h, w]."""
    device, dtype = request.text.device, parts.dtype
    seen = encode(parts.vae, [_crop(foreground, *size)]).to(dtype).expand(2 * request.pictures, -1, -1, -1)
    shape = (request.pictures, 4, size[1] // 8, size[0] // 8)
    # Random numbers depend on their precision: they are drawn in the text's, whatever the UNet computes in.
    latents = torch.randn(shape, generator=generator, device=device, dtype=request.text.dtype).to(dtype)
    length = request.steps if start is None else round(request.steps / request.highres_denoise)
    begin = 0 if start is None else length - int(length * request.highres_denoise)
    scheduler = scheduler_at(length, begin, device)
    if start is not None:
        latents = scheduler.add_noise(start.to(dtype), latents, scheduler.timesteps[begin].repeat(request.pictures))
    texts = request.text.to(dtype).repeat_interleave(request.pictures, 0)
    for timestep in scheduler.timesteps[begin:]:
        batch = torch.cat((latents.repeat(2, 1, 1, 1), seen), 1)
        negative, positive = parts.unet(batch, timestep, encoder_hidden_states=texts, return_dict=False)[0].chunk(2)
        noise = negative + request.guidance * (positive - negative)
        latents = scheduler.step(noise, timestep, latents, generator=generator, return_dict=False)[0]
    return latents


def _cut_out(matting: Callable[[Tensor], Tensor], request: IcLightRequest) -> NDArray[np.uint8]:
    """The subject on grey, at its own size (specification section 2)."""
    height, width = request.subject.shape[:2]
    feed = torch.tensor(request.feed).permute(2, 0, 1)[None].float() / _GREY - 1
    alpha = F.interpolate(matting(feed.to(request.text.device)), (height, width), mode="bilinear")[0, 0].clip(0, 1)
    mixed = _GREY + (request.subject.astype(np.float32) - _GREY) * alpha.cpu().numpy()[..., None]
    composed: NDArray[np.uint8] = mixed.clip(0, 255).astype(np.uint8)
    return composed


def _crop(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scale to cover the size and cut out the middle (specification section 3)."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    scaled = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    left, top = (scaled[0] - width) / 2, (scaled[1] - height) / 2
    whole = Image.fromarray(picture).resize(scaled, Image.Resampling.LANCZOS)
    return np.asarray(whole.crop((round(left), round(top), round(left + width), round(top + height))))
