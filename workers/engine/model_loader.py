"""Loads and warms up the models that a worker serves, and reports their state."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from models.catalog import MODELS
from models.errors import CompilationFailed, DeviceUnfit, WeightsError
from models.model import Model
from models.options import ModelOptions
from models.pipeline import Pipeline
from models.runtime.kernel_cache import locate_libcuda, set_cache_dirs, stop_compile_workers
from models.weights.hashes import WEIGHT_HASHES, HashCache
from models.weights.installed import INSTALLED_NAME, WeightSet
from workers.engine.device_errors import is_broken_device, is_out_of_memory
from workers.engine.loading_mark import FOLDER, LoadingMark
from workers.engine.memory import free_host_memory, shortage
from workers.settings import WorkerSettings
from workers.state.registry import ModelReport, ModelState, WorkerReport

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)
_KERNELS: Final = "compiled"
_KILLED: Final = (
    "loading again; the last {} time(s) the worker ended without a word while it loaded this. If the kernel killed it "
    "for want of memory, the kernel's log says so."
)
_FEWER_MODELS: Final = "FACELIGHT_MODELS chooses which models are loaded."
_TOO_SMALL: Final = "The memory of {} is too small for {}. {} {}"


class LoadedModels:
    """The models of one worker: their pipelines once loaded, and a report of their state at any time."""

    def __init__(
        self, worker: str, settings: WorkerSettings, host_memory: Callable[[], int] = free_host_memory
    ) -> None:
        """`host_memory` tells the free bytes of this host."""
        self._worker, self._host_memory = worker, host_memory
        self._settings = settings
        self._device = settings.device
        self._hashes = HashCache(settings.data_dir / WEIGHT_HASHES)
        self._reports: Mapping[str, ModelReport] = {slug: ModelReport(ModelState.LOADING) for slug in settings.models}
        self.pipelines: dict[str, Pipeline[Any, Any]] = {}

    def report(self) -> WorkerReport:
        """State of every model. May be called from another thread."""
        return WorkerReport(self._worker, self._device, self._reports)

    def load(self, on_change: Callable[[], None]) -> None:
        """Load one model after the other; one that cannot be loaded does not keep the others from being served."""
        # Before diffusers: it imports the compiler, which sets default folders where none are named.
        set_cache_dirs(self._settings.data_dir / _KERNELS)
        from diffusers.utils.logging import disable_progress_bar

        disable_progress_bar()
        device = pick_device(self._settings.device)
        self._device = str(device)

        def publish(slug: str, report: ModelReport) -> None:
            self._reports = {**self._reports, slug: report}
            on_change()

        mark = LoadingMark(self._settings.data_dir / FOLDER)
        try:
            for slug in sorted(self._settings.models, key=lambda slug: MODELS[slug].adapts_to_memory):
                if killed := mark.killed[slug]:
                    publish(slug, ModelReport(ModelState.LOADING, detail=_KILLED.format(killed)))
                mark.loads(slug)
                publish(slug, self._load_one(slug, device, partial(publish, slug)))
                mark.has_loaded(slug)
        finally:
            mark.remove()
        stop_compile_workers()

    def _load_one(self, slug: str, device: torch.device, publish: Callable[[ModelReport], None]) -> ModelReport:
        began, model, options = time.monotonic(), MODELS[slug], self._settings.options_of(slug)
        try:
            weights = self._open_weights(model, options) if model.needs_weights else WeightSet.empty()
            with weights.verifying(self._hashes):
                if too_small := shortage(model.memory_needs(weights, device, options), device, self._host_memory()):
                    raise DeviceUnfit(f"{too_small}. {_FEWER_MODELS} {model.memory_hint}")
                pipeline = model.load(weights, device, options)
                loaded = time.monotonic()
                publish(ModelReport(ModelState.LOADING, detail="warming up"))
                pipeline.warm_up()
        except (WeightsError, OSError) as error:
            return _failed(slug, f"cannot load: {error}")
        except DeviceUnfit as error:
            return _failed(slug, str(error))
        except CompilationFailed as error:
            if error.__cause__ and is_broken_device(error.__cause__):
                raise
            return _failed(slug, f"{error}. FACELIGHT_COMPILE=auto serves without compiling what cannot be compiled.")
        except MemoryError as error:
            return _failed(slug, _TOO_SMALL.format("this host", slug, _FEWER_MODELS, model.memory_hint), error)
        except Exception as error:  # broad: a defect in one model's code must not keep the others from being served
            if is_out_of_memory(error):
                return _failed(slug, _TOO_SMALL.format(device, slug, _FEWER_MODELS, model.memory_hint), error)
            if is_broken_device(error):
                raise
            _log.exception("cannot serve %s", slug)
            return ModelReport(ModelState.FAILED, detail=f"cannot load: {type(error).__name__}, see the worker's log")
        self.pipelines[slug] = pipeline
        load_s, warm_up_s, execution = loaded - began, time.monotonic() - loaded, pipeline.execution
        _log.info(
            "%s loaded on %s in %.1f s and warmed up in %.1f s (%s weights, %s execution)",
            *(slug, device, load_s, warm_up_s, weights.kind, execution.mode),
        )
        if execution.fallback:
            _log.warning("%s falls back (%s execution): %s", slug, execution.mode, execution.fallback)
        if weights.kind == "demo":
            _log.warning("%s runs on demo weights. %s", slug, model.demo_note)
        return ModelReport(
            ModelState.READY,
            weights.kind,
            variants=pipeline.variants,
            load_s=load_s,
            warm_up_s=warm_up_s,
            execution=execution.mode,
            fallback=execution.fallback,
        )

    def _open_weights(self, model: Model, options: ModelOptions) -> WeightSet:
        root = ensure_weights(self._settings)
        return WeightSet.open(root, model.slug, self._hashes, model.unused_roles(options), defer_hashes=True)


def _failed(slug: str, detail: str, error: BaseException | None = None) -> ModelReport:
    _log.error("cannot serve %s: %s%s", slug, detail, f" ({error})" if error else "")
    return ModelReport(ModelState.FAILED, detail=detail)


def pick_device(wanted: str) -> torch.device:
    """The torch device that the settings name; `auto` is the first GPU, or the CPU without one.

    Raises torch's own error if there is no such device.
    """
    import torch

    device = torch.device(wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    torch.zeros(1, device=device)  # else the first weight file moved there would be reported as damaged
    if device.type == "cuda":
        set_up_cuda(device)
    return device


def set_up_cuda(device: torch.device) -> None:
    """Make `device` this thread's current one, exclude cuDNN's attention, and show the compiler the driver.

    Events and questions about memory go to the current device, which is the first GPU unless it is set. cuDNN builds a
    plan for every shape of attention that it has not seen, within the request, and keeps it for ever; torch prefers it
    on Hopper and later, where FlashAttention serves all shapes alike.
    """
    import torch

    if device.index is not None:
        torch.cuda.set_device(device)
    torch.backends.cuda.enable_cudnn_sdp(False)
    locate_libcuda()


def ensure_weights(settings: WorkerSettings) -> Path:
    """The folder of the weights; builds demo weights if they are asked for and needed.

    Raises `WeightsError` if no weights were fetched and the settings ask for no demo weights.
    """
    folder = weights_folder(settings)
    if folder == settings.demo_dir:
        from models.demo.build import build

        if build(folder):
            _log.info("built demo weights in %s", folder)
    elif not (folder / INSTALLED_NAME).is_file():
        raise WeightsError(
            f"no weights were fetched into {folder}. Run `facelight weights fetch`, or set FACELIGHT_DEMO=true to "
            "serve demo weights."
        )
    return folder


def weights_folder(settings: WorkerSettings) -> Path:
    """The folder that a worker with these settings uses, whether or not it exists."""
    fetched = settings.weights_dir or (settings.real_dir / INSTALLED_NAME).is_file()
    return settings.demo_dir if settings.demo and not fetched else settings.real_dir


def with_demo_weights(settings: WorkerSettings) -> WorkerSettings:
    """The settings of the worker of `facelight serve`: demo weights unless the operator has set FACELIGHT_DEMO."""
    return settings if "demo" in settings.model_fields_set else settings.model_copy(update={"demo": True})
