"""The counts of `bench.cpu`: formulas against what networks of full size do, and counters that count."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

from bench import cpu
from bench.counts import roofline, roofline_small
from bench.counts.counting import META, flop, operators
from bench.counts.graphs import GraphCounter
from bench.full_size import ic_light, pulid_lightning
from bench.full_size.networks import ic_light_parts, pulid_parts
from bench.report import Record
from models.runtime.runner import Runner


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device=META)


@pytest.fixture(scope="module")
def pulid():
    return pulid_parts(META, reduced=False)


@pytest.fixture(scope="module")
def relighting():
    return ic_light_parts(META, reduced=False)


@pytest.mark.slow
def test_the_formulas_of_sdxl_are_what_it_does(pulid):
    unet, vae = pulid.unet, pulid.vae
    told = {"text_embeds": empty(2, 1280), "time_ids": empty(2, 6)}
    done = flop(
        lambda: unet(empty(2, 4, 64, 48), empty(2), encoder_hidden_states=empty(2, 77, 2048), added_cond_kwargs=told)
    )
    hoisted = 2 * roofline.contexts(unet.config, 77)
    least = 2 * roofline.evaluation(unet.config, 64, 48, 77) + hoisted
    assert least <= done <= 1.001 * least  # the rest are embeddings of the timestep
    assert roofline.vae_decode(vae.config, 64, 48) == flop(lambda: vae.decode(empty(1, 4, 64, 48)))
    ids = torch.zeros(1, 77, dtype=torch.long, device=META)
    for encoder in (pulid.clip_l, pulid.clip_g):
        assert roofline.text_encoder(encoder.config.to_dict()) == flop(lambda encoder=encoder: encoder(ids))


@pytest.mark.slow
def test_the_formulas_of_stable_diffusion_are_what_it_does(relighting):
    unet, vae = relighting.unet, relighting.vae
    done = flop(lambda: unet(empty(2, 8, 80, 64), empty(2), encoder_hidden_states=empty(2, 77, 768)))
    least = 2 * (roofline.evaluation(unet.config, 80, 64, 77) + roofline.contexts(unet.config, 77))
    assert least <= done <= 1.001 * least
    assert roofline.vae_encode(vae.config, 80, 64) == flop(lambda: vae.encode(empty(1, 3, 640, 512)))


def test_the_formulas_of_the_small_networks_are_what_they_do():
    with META:
        parser, tower, encoder = (
            pulid_lightning.face_parser(),
            pulid_lightning.vision_tower(),
            pulid_lightning.id_encoder(),
        )
        matting = ic_light.rmbg()
    assert roofline_small.bisenet(512, 512) == flop(lambda: parser(empty(1, 3, 512, 512)))
    assert roofline_small.eva_tower() == flop(lambda: tower(empty(1, 3, 336, 336)))
    assert roofline_small.id_encoder() == flop(lambda: encoder(empty(1, 1280), [empty(1, 577, 1024)] * 5))
    assert roofline_small.rmbg(1152, 896) == flop(lambda: matting(empty(1, 3, 1152, 896)))


def test_views_are_free_and_an_attention_is_one_operator():
    def evaluation() -> torch.Tensor:
        x = empty(2, 8, 16)
        heads = x.view(2, 8, 2, 8).transpose(1, 2)
        return F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2) + x

    # The attention, its result brought into order, and the sum.
    assert operators(evaluation) == 3


def double(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return network(x) * 2


def test_graphs_are_counted_when_they_are_made_and_when_they_serve():
    counter = GraphCounter()
    with counter.watching():
        runner = Runner(double, counter.execution)
        network = torch.nn.Linear(4, 4).requires_grad_(False)
        runner.compile(network, (torch.ones(3, 4),), (torch.ones(5, 4),))
        before = counter.served["double"]
        runner(network, torch.ones(7, 4))
    assert counter.graphs == {"double": 1}
    assert counter.served["double"] == before + 1
    with pytest.raises(RuntimeError, match="recompile"):
        runner(network, torch.ones(7, 2, 4))


@pytest.mark.slow
def test_the_command_leaves_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench.cpu", "--only", "operators", "--out", str(tmp_path)])
    cpu.main()
    (path,) = tmp_path.glob("cpu-operators-cpu-*.json")
    record = Record.model_validate_json(path.read_text())
    assert record.complete
    rows = {row.name: row for row in record.rows}
    assert rows["pulid-lightning: operators ours / diffusers"].reached
    assert rows["ic-light: operators ours / diffusers"].value < 1
    assert "| pulid-lightning: operators ours / diffusers |" in capsys.readouterr().out


@pytest.mark.slow
def test_every_goal_of_the_counts_is_reached(tmp_path, monkeypatch):
    chosen = [part for name in ("flops", "known", "graphs") for part in ("--only", name)]
    monkeypatch.setattr(sys, "argv", ["bench.cpu", *chosen, "--out", str(tmp_path)])
    cpu.main()
    (path,) = tmp_path.glob("*.json")
    record = Record.model_validate_json(path.read_text())
    assert record.complete
    assert [row.name for row in record.rows if row.reached is False] == []
    assert next(row for row in record.rows if row.name == "pulid-lightning: graphs of the UNet").value == 2
