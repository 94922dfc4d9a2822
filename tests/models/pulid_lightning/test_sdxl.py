"""Checkpoints, conditions, denoising and decoding."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.demo import architecture
from models.demo.face_code import CONTEXT_WIDTH
from models.errors import WeightsError
from models.pulid_lightning.checkpoints import Checkpoint, load_checkpoint
from models.pulid_lightning.sampler import STEPS, evaluated_sigmas, karras_sigmas, timestep_of
from models.pulid_lightning.sdxl import (
    Conditions,
    decode_latents,
    decode_picture,
    denoiser,
    load_tokenizers,
    time_ids,
    timestep_shifts,
)
from models.pulid_lightning.single_file import SingleFile
from models.pulid_lightning.text_encoder import row_by_row
from models.weights.folder import Folder
from models.weights.installed import WeightSet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(weights: WeightSet) -> Checkpoint:
    return load_checkpoint(SingleFile(weights["sdxl_checkpoint_default"], weights.folder("sdxl_config")), CPU)


def test_weights_arrive_where_they_belong(checkpoint: Checkpoint, weights: WeightSet):
    stored = load_file(weights["sdxl_checkpoint_default"])
    unet, vae = checkpoint.unet.state_dict(), checkpoint.vae.state_dict()
    pairs = {
        "model.diffusion_model.input_blocks.9.0.in_layers.2.weight": unet["down_blocks.4.resnets.0.conv1.weight"],
        "model.diffusion_model.output_blocks.6.1.transformer_blocks.0.attn2.to_k.weight": unet[
            "up_blocks.3.attentions.0.transformer_blocks.0.attn2.to_k.weight"
        ],
        "model.diffusion_model.output_blocks.1.1.conv.weight": unet["up_blocks.0.upsamplers.0.conv.weight"],
        "model.diffusion_model.output_blocks.7.2.conv.weight": unet["up_blocks.3.upsamplers.0.conv.weight"],
        "model.diffusion_model.label_emb.0.2.bias": unet["add_embedding.linear_2.bias"],
        "first_stage_model.decoder.up.3.block.0.conv1.weight": vae["decoder.up_blocks.0.resnets.0.conv1.weight"],
        "first_stage_model.post_quant_conv.weight": vae["post_quant_conv.weight"],
    }
    for key, value in pairs.items():
        assert torch.equal(stored[key].float(), value), key


def test_every_stored_tensor_is_used(checkpoint: Checkpoint, weights: WeightSet):
    stored = load_file(weights["sdxl_checkpoint_default"])
    unet = sum(key.startswith("model.diffusion_model.") for key in stored)
    vae = sum(key.startswith("first_stage_model.") for key in stored)
    assert unet == len(checkpoint.unet.state_dict()) == 302
    assert vae == len(checkpoint.vae.state_dict()) == len(architecture.vae().state_dict())


def test_text_encoders_give_penultimate_states_and_pool_at_the_first_end(checkpoint: Checkpoint, weights: WeightSet):
    first, second = load_tokenizers(weights.folder("sdxl_config"))
    ids = [second.bos_token_id, 320, second.eos_token_id, *[0] * 74]
    changed = [*ids[:-1], 321]
    states, pooled = row_by_row(checkpoint.clip_g)(torch.tensor([ids, changed]))
    assert states.shape == (2, 77, CONTEXT_WIDTH - 128)
    assert torch.allclose(pooled[0], pooled[1], atol=1e-6)
    assert row_by_row(checkpoint.clip_l)(torch.tensor([ids]))[0].shape == (1, 77, 128)
    assert (first.pad_token_id, second.pad_token_id) == (first.eos_token_id, 0)


def test_a_checkpoint_that_lacks_a_tensor_is_refused(weights: WeightSet, tmp_path: Path):
    state = load_file(weights["sdxl_checkpoint_default"])
    del state["model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"]
    save_file(state, tmp_path / "short.safetensors")
    with pytest.raises(WeightsError, match="lacks tensors"):
        load_checkpoint(SingleFile(tmp_path / "short.safetensors", weights.folder("sdxl_config")), CPU)


def test_files_that_are_no_checkpoint_are_refused(weights: WeightSet, tmp_path: Path):
    (tmp_path / "bad.safetensors").write_bytes(b"not tensors")
    with pytest.raises(WeightsError, match=r"bad\.safetensors"):
        SingleFile(tmp_path / "bad.safetensors", weights.folder("sdxl_config"))
    with pytest.raises(WeightsError, match="tokenizer"):
        load_tokenizers(Folder.as_found(tmp_path))


def test_sizes_are_told_with_the_height_first():
    assert time_ids((640, 512), 3, CPU).tolist() == [[512, 640, 0, 0, 512, 640]] * 3


def test_guidance():
    """Of a UNet that answers 1 without and 3 with the prompt, the guided noise is 1 + 1.2 x 2."""
    seen = []

    def predict(unet, latents, shift, contexts):
        seen.append((unet, latents, shift, contexts))
        return torch.cat((torch.ones(1, 4, 2, 2), torch.full((1, 4, 2, 2), 3.0)))

    unet, shift = SimpleNamespace(dtype=torch.float32), torch.zeros(2, 5)
    latents = torch.full((1, 4, 2, 2), 20.0)
    denoised = denoiser(predict, unet, Conditions((), {687: shift}))(latents, torch.tensor(3.168605))
    assert torch.allclose(denoised, 20 - 3.168605 * torch.tensor(3.4), atol=1e-4)
    ((given, scaled, told, contexts),) = seen
    assert (given, contexts) == (unet, ())
    assert torch.allclose(scaled, torch.full((2, 4, 2, 2), 20 / (3.168605**2 + 1) ** 0.5))
    assert told is shift


def test_every_timestep_of_a_run_has_its_shift(checkpoint: Checkpoint):
    sigmas = karras_sigmas(STEPS)
    shifts = timestep_shifts(
        checkpoint.unet, sigmas, torch.zeros(2, checkpoint.unet.time_embedding.linear_2.out_features)
    )
    assert (
        list(shifts) == [timestep_of(sigma) for sigma in evaluated_sigmas(sigmas)] == [999, 860, 687, 407, 146, 14, 0]
    )
    assert {shift.shape[0] for shift in shifts.values()} == {2}
    assert not torch.equal(shifts[999], shifts[860])


def test_pictures_are_cut_off_at_black_and_white_and_truncated():
    vae = SimpleNamespace(
        config=SimpleNamespace(scaling_factor=0.5),
        dtype=torch.float32,
        post_quant_conv=lambda latents: latents,
        decoder=lambda latents: latents[:, :3],
    )
    values = [-3.0, 3.0, 0.0, 0.999]
    latents = torch.tensor(values).view(1, 1, 2, 2).expand(2, 4, 2, 2) * 0.5
    pixels = decode_latents(decode_picture, vae, latents).pictures
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (2, 2, 2, 3)
    assert pixels[1, :, :, 0].ravel().tolist() == [0, 255, 127, 254]
