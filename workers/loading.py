"""Loading the models a worker serves, and saying how far it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.catalog import MODELS
from models.errors import WeightsError
from models.pipeline import LoadOptions, Pipeline
from models.weights.weight_set import WeightSet
from workers.presence import ModelReport, ModelState, WorkerReport
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)


class LoadedModels:
    """The models of one worker: their pipelines once loaded, and a report of their state at any time."""

    def __init__(self, worker: str, settings: WorkerSettings) -> None:
        self._worker = worker
        self._settings = settings
        self._device = settings.device
        self._reports: Mapping[str, ModelReport] = {slug: ModelReport(ModelState.LOADING) for slug in settings.models}
        self.pipelines: dict[str, Pipeline[Any, Any]] = {}

    def report(self) -> WorkerReport:
        """State of every model. May be called from another thread."""
        return WorkerReport(self._worker, self._device, self._reports)

    def load(self, on_change: Callable[[], None]) -> None:
        """Load one model after the other; a model whose weights are amiss does not keep the others from serving."""
        from diffusers.utils.logging import disable_progress_bar

        disable_progress_bar()
        device = pick_device(self._settings.device)
        self._device = str(device)
        root = ensure_weights(self._settings)
        for slug in self._settings.models:
            self._reports = {**self._reports, slug: self._load_one(slug, root, device)}
            on_change()

    def _load_one(self, slug: str, root: Path, device: torch.device) -> ModelReport:
        began = time.monotonic()
        try:
            weights = WeightSet.open(root, slug)
            pipeline = MODELS[slug].load(weights, device, self._options())
        except WeightsError as error:
            _log.error("cannot serve %s: %s", slug, error)
            return ModelReport(ModelState.FAILED, detail=str(error))
        self.pipelines[slug] = pipeline
        _log.info("%s loaded on %s in %.1f s (%s weights)", slug, device, time.monotonic() - began, weights.kind)
        if weights.kind == "demo":
            _log.warning("%s runs on demo weights: small random stand-ins, its pictures are noise", slug)
        return ModelReport(ModelState.READY, weights=weights.kind, extensions=pipeline.extensions)

    def _options(self) -> LoadOptions:
        return LoadOptions(cpu_noise=self._settings.cpu_noise, pulid_body_share=self._settings.pulid_body_share)


def pick_device(wanted: str) -> torch.device:
    """The torch device that the settings name; `auto` is the first GPU, or the CPU without one."""
    import torch

    if wanted != "auto":
        return torch.device(wanted)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def ensure_weights(settings: WorkerSettings) -> Path:
    """Folder of the weights; demo weights are built first if no folder is set and none were built before."""
    if settings.weights_dir is not None:
        return settings.weights_dir
    from models.demo_weights.build import build

    if build(settings.demo_dir):
        _log.info("built demo weights in %s", settings.demo_dir)
    return settings.demo_dir
