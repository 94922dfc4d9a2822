"""The warm-up meets every stage that a request will meet."""

from __future__ import annotations

import pytest
import torch

from models.ic_light import pipeline, warm_up
from models.ic_light.networks import Networks
from models.ic_light.pipeline import IcLight
from models.ic_light.warm_up import default_params
from models.runtime.runner import Execution
from tests.models.runtime.fake_capturer import FakeGraphCapturer


def test_a_request_of_every_variant_is_run(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    model, feeds = IcLight(networks, execution=Execution(capturer=FakeGraphCapturer())), list[torch.Tensor]()
    predict = networks.matting.predict

    def watched(feed: torch.Tensor) -> torch.Tensor:
        feeds.append(feed)
        return predict(feed)

    monkeypatch.setattr(networks.matting, "predict", watched)
    # As a default request, but for its size.
    small = default_params().model_copy(update={"width": 256, "height": 256, "highres_scale": 1.25})
    for module in (pipeline, warm_up):
        monkeypatch.setattr(module, "default_params", lambda: small)
    model.warm_up()
    assert len(feeds) == len(model.variants) == 2
    assert model.execution.mode == "captured"
