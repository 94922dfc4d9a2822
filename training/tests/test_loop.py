"""The training loop: resuming, the learning rate, the weight average."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training.stages import loop
from training.stages.loop import Schedule, train


class Stopped(Exception):
    pass


def line(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


def loss_on(network: nn.Linear, stop_at: int = -1):
    def loss_of(step: int) -> Tensor:
        if step == stop_at:
            raise Stopped
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
        return (network(x) - x.sum(dim=1, keepdim=True)).square().mean()

    return loss_of


def run(network: nn.Linear, schedule: Schedule, folder: Path, logged: list[str], stop_at: int = -1) -> None:
    groups = [{"params": network.parameters(), "weight_decay": 0.0}]
    train("line", network, groups, loss_on(network, stop_at), schedule, folder / "line", logged.append)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_training_converges_and_logs_progress(tmp_path: Path, average: float):
    network, logged = line(), []
    run(network, Schedule(300, 0.1, warm_up=10, ema_decay=average), tmp_path, logged)
    assert torch.allclose(network.weight, torch.ones(1, 3), atol=0.02)
    assert [text.split(",")[0] for text in logged] == [f"line: step {step} of 300" for step in (100, 200, 300)]
    losses = [float(text.split("loss ")[1]) for text in logged]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: float):
    monkeypatch.setattr(loop, "_CHECKPOINT_EVERY", 20)
    schedule = Schedule(60, 0.05, warm_up=5, ema_decay=average)
    whole, stopped, resumed, logged = line(), line(), line(seed=1), []
    (tmp_path / "whole").mkdir()
    run(whole, schedule, tmp_path / "whole", logged)
    with pytest.raises(Stopped):
        run(stopped, schedule, tmp_path, logged, stop_at=47)
    run(resumed, schedule, tmp_path, logged)
    assert "line: resumes at step 40" in logged
    assert torch.equal(resumed.weight, whole.weight)


def test_a_finished_stage_is_not_trained_again(tmp_path: Path):
    schedule, logged = Schedule(5, 0.05, ema_decay=0.9), []
    first, second = line(), line(seed=1)
    run(first, schedule, tmp_path, logged)
    run(second, schedule, tmp_path, logged, stop_at=0)
    assert torch.equal(second.weight, first.weight)


def test_the_rate_rises_and_falls():
    schedule = Schedule(1000, 2.0, warm_up=100, final_share=0.1)
    rates = [schedule.rate_at(step) for step in range(1001)]
    assert rates[0] == pytest.approx(0.02)
    assert max(rates) == pytest.approx(2.0, rel=0.05)
    assert rates[1000] == pytest.approx(0.2)
    assert rates[100:] == sorted(rates[100:], reverse=True)
