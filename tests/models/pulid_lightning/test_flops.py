"""What a default request computes, against the least that the algorithm needs.

The whole path from parameters to pixels runs, on the meta device with networks of full size. Only the two face models
are not among them: they are ONNX files (0.02 TFLOP), and the demo's stand in.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.full_size import pulid_lightning as full_size
from models.pulid_lightning.checkpoints import Checkpoint, Checkpoints
from models.pulid_lightning.identity.eva_clip import EvaClip
from models.pulid_lightning.identity.extractor import IdentityExtractor
from models.pulid_lightning.identity.face import FaceFinder
from models.pulid_lightning.params import Params
from models.pulid_lightning.pipeline import Prepared, PulidLightning
from models.pulid_lightning.sdxl import load_tokenizers
from models.weights.installed import WeightSet
from tests.models.work import META, TERA, ReadAsZero, recorded, teraflops

UNET_PAIR, DECODE, TEXTS, EVA_CLIP = 13.522, 10.470, 0.027 + 0.196, 0.382
"""TFLOP of one evaluation of the plain UNet for both branches, and of the other large networks (performance anchors,
section 1). The rest of the identity's networks and its attention come on top."""
TEXT_WIDTHS = 10 * 640 + 60 * 1280
"""Widths of all cross-attentions together."""
TEXT_KEYS = 2 * 2 * 2 * 77 * 2048 * TEXT_WIDTHS / TERA
"""Projecting both texts to keys and values, which is part of the evaluation above and needed but once."""
MINIMUM = 7 * (UNET_PAIR - TEXT_KEYS) + TEXT_KEYS + DECODE + TEXTS + EVA_CLIP


@pytest.fixture(scope="module")
def networks() -> dict[str, torch.nn.Module]:
    with META:
        return {
            "unet": full_size.unet(),
            "vae": full_size.vae(),
            "clip_l": full_size.clip_l(),
            "clip_g": full_size.clip_g(),
            "face_parser": full_size.face_parser(),
            "vision_tower": full_size.vision_tower(),
            "id_encoder": full_size.id_encoder(),
        }


@pytest.fixture(scope="module")
def full_size_pipeline(networks, weights: WeightSet) -> PulidLightning:
    unet, vae = networks["unet"], networks["vae"]
    with META:
        projections = full_size.projections(unet)
        extractor = IdentityExtractor(
            networks["face_parser"], EvaClip(networks["vision_tower"]), networks["id_encoder"], META
        )
    return PulidLightning(
        faces=FaceFinder(weights.folder("face_analysis")),
        tokenizers=load_tokenizers(weights.folder("sdxl_config")),
        extractor=extractor,
        projections=projections,
        checkpoints=Checkpoints(
            {"default": Checkpoint(unet, vae, networks["clip_l"], networks["clip_g"])}, {}, "default"
        ),
        device=META,
    )


@pytest.fixture
def calls(networks):
    """The calls of all networks in the test; of the VAE those of its halves, of the tower those of its first layer."""
    vae, tower = networks["vae"], networks["vision_tower"]
    entries = networks | {
        "unet": networks["unet"].conv_in,
        "vision_tower": tower.patch_embed,
        "encode": vae.encoder,
        "decode": vae.decoder,
    }
    del entries["vae"]
    with recorded(entries) as calls:
        yield calls


def prepare(pipeline: PulidLightning, photo: bytes, **changes) -> Prepared:
    return pipeline.prepare(Params(face_image="photo", seed=412431, **changes), {"face_image": photo})


@pytest.mark.slow
def test_a_default_request_does_little_more_than_it_must(full_size_pipeline, calls, portrait, png):
    prepared = prepare(full_size_pipeline, png(portrait))
    work = teraflops(lambda: full_size_pipeline.run([prepared], lambda step, total: None)[0])
    assert MINIMUM <= work <= 1.005 * MINIMUM
    assert calls["unet"] == [(2, 4, 128, 128)] * 7
    assert calls["decode"] == [(1, 4, 128, 128)]
    assert calls["encode"] == []
    assert calls["face_parser"] == [(1, 3, 512, 512)]
    assert calls["vision_tower"] == [(1, 3, 336, 336)]
    assert calls["id_encoder"] == [(1, 1280)]
    assert sum(rows for rows, _ in calls["clip_l"]) == sum(rows for rows, _ in calls["clip_g"]) == 2


@pytest.mark.slow
def test_the_same_face_and_prompt_are_looked_at_once(full_size_pipeline, calls, portrait, png):
    def run(photo: bytes, prompt: str) -> None:
        prepared = prepare(full_size_pipeline, photo, width=256, height=256, prompt=prompt)
        full_size_pipeline.run([prepared], lambda step, total: None)

    with ReadAsZero():
        run(png(np.roll(portrait, 16, 1)), "a cook")  # embeds the empty negative prompt, if no other test has
        for seen in calls.values():
            seen.clear()
        for _ in range(2):
            run(png(np.roll(portrait, 8, 1)), "a sailor")
    networks = ("clip_l", "clip_g", "face_parser", "vision_tower", "id_encoder")
    assert [len(calls[name]) for name in networks] == [1, 1, 1, 1, 1]
    assert len(calls["unet"]) == 14


@pytest.mark.slow
def test_several_pictures_share_every_evaluation_and_one_photo_is_looked_at_once(
    full_size_pipeline, calls, portrait, png
):
    def run(**changes) -> np.ndarray:
        with ReadAsZero():
            prepared = prepare(full_size_pipeline, png(portrait[:, ::-1]), width=512, height=256, **changes)
            return full_size_pipeline.run([prepared], lambda step, total: None)[0]

    assert run(number_of_images=3).shape == (3, 256, 512, 3)
    assert run(prompt="a statue").shape == (1, 256, 512, 3)
    assert calls["unet"] == [(6, 4, 32, 64)] * 7 + [(2, 4, 32, 64)] * 7
    assert sum(rows for rows, *_ in calls["decode"]) == 3 + 1
    assert len(calls["face_parser"]) == len(calls["vision_tower"]) == len(calls["id_encoder"]) == 1
