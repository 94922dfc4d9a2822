"""Probes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.catalog import MODELS
from server.routes.health import readiness
from tests.server.conftest import MakeSettings
from tests.server.support import Client, FakeWorker, serving
from workers.state.record import Status
from workers.state.registry import ModelReport, ModelState, WorkerReport
from workers.state.suspension import resume, suspend

READY_DEMO = ModelReport(
    ModelState.READY, "demo", variants=("foreground",), load_s=2.0, warm_up_s=61.25, execution="eager"
)
READY_REAL = ModelReport(ModelState.READY, "real")
LOADING = ModelReport(ModelState.LOADING)
BROKEN = ModelReport(ModelState.FAILED, detail="unet.safetensors: checksum differs")


NOT_READY = {
    "ready": False,
    "weights": None,
    "note": "",
    "variants": [],
    "execution": None,
    "fallback": "",
    "waiting": 0,
}


def test_live(client: Client) -> None:
    answer = client.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "live"})


def test_not_ready_without_workers(client: Client) -> None:
    answer = client.get("/health/ready")
    absent = {**NOT_READY, "detail": "no worker serves this model"}
    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "weights": None,
        "models": {"pulid-lightning": absent, "ic-light": absent},
        "workers": 0,
        "draining": False,
        "paused": False,
    }


def test_not_ready_while_loading(client: Client, worker: FakeWorker) -> None:
    worker.heartbeat(ic_light=LOADING, pulid_lightning=LOADING)
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["models"]["ic-light"]["detail"]) == (503, "loading")


def test_a_worker_that_compiles_says_so(client: Client, worker: FakeWorker) -> None:
    worker.heartbeat(ic_light=ModelReport(ModelState.LOADING, detail="warming up"))
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["models"]["ic-light"]["detail"]) == (503, "warming up")


def test_not_ready_before_the_worker_has_loaded_all(client: Client, worker: FakeWorker) -> None:
    worker.heartbeat(ic_light=READY_DEMO, pulid_lightning=LOADING)
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["models"]["ic-light"] == {**NOT_READY, "detail": "loading"}


def test_ready_with_one_model(client: Client, worker: FakeWorker) -> None:
    worker.heartbeat(ic_light=READY_DEMO, pulid_lightning=BROKEN)
    answer = client.get("/health/ready")
    body = answer.json()
    assert (answer.status_code, body["ready"], body["weights"], body["workers"]) == (200, True, "demo", 1)
    assert body["models"]["ic-light"] == {
        "ready": True,
        "weights": "demo",
        "note": "Small networks trained on a handful of pictures, for demonstration only.",
        "variants": ["foreground"],
        "detail": "loaded in 2.0 s, warmed up in 61.2 s",
        "execution": "eager",
        "fallback": "",
        "waiting": 0,
    }
    assert body["models"]["pulid-lightning"]["detail"] == "unet.safetensors: checksum differs"


def test_a_pause_is_shown_and_requests_are_accepted_all_the_same(client: Client, worker: FakeWorker) -> None:
    worker.heartbeat(ic_light=READY_DEMO)
    suspend(worker.redis)
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["paused"]) == (200, True)
    request_id = client.submit()
    assert worker.record(request_id).status is Status.QUEUED
    resume(worker.redis)
    assert client.get("/health/ready").json()["paused"] is False


def test_not_ready_once_the_worker_has_left(client: Client, worker: FakeWorker) -> None:
    worker.heartbeat(ic_light=READY_DEMO)
    worker.registry.deregister("played")
    assert client.get("/health/ready").status_code == 503


def test_kinds_of_weights_are_told_apart() -> None:
    def report(name: str, **models: ModelReport) -> WorkerReport:
        return WorkerReport(name, "cpu", {slug.replace("_", "-"): model for slug, model in models.items()})

    real = report("a", ic_light=READY_REAL, pulid_lightning=READY_REAL)
    both = [real, report("b", ic_light=READY_DEMO)]
    assert readiness([real])["weights"] == "real"
    assert readiness(both)["weights"] == "mixed"
    assert readiness(both)["models"]["ic-light"]["weights"] == "mixed"
    assert readiness(both)["models"]["pulid-lightning"]["weights"] == "real"
    notes = {slug: model["note"] for slug, model in readiness(both)["models"].items()}
    assert notes == {"pulid-lightning": "", "ic-light": MODELS["ic-light"].demo_note}
    assert readiness([real, report("b", ic_light=BROKEN)])["models"]["ic-light"]["ready"]


def test_a_fallback_of_any_worker_is_shown() -> None:
    captured = replace(READY_REAL, execution="captured")
    reason = "predict_noise cannot be compiled: RuntimeError: no C compiler here"
    fallen_back = replace(READY_REAL, execution="eager", fallback=reason)

    def health(*reports: ModelReport) -> tuple[object, object]:
        workers = [WorkerReport(f"w{number}", "cuda", {"ic-light": each}) for number, each in enumerate(reports)]
        model = readiness(workers)["models"]["ic-light"]
        return model["execution"], model["fallback"]

    assert health(captured, captured) == ("captured", "")
    assert health(captured, fallen_back, fallen_back) == ("mixed", reason)


def test_variants_of_all_workers_are_listed_in_the_order_of_the_parameters() -> None:
    def report(name: str, state: ModelState, *variants: str) -> WorkerReport:
        return WorkerReport(name, "cpu", {"pulid-lightning": ModelReport(state, "real", variants=variants)})

    workers = [
        report("a", ModelState.READY, "realistic", "default"),
        report("b", ModelState.READY, "default"),
        report("c", ModelState.LOADING, "artistic"),
    ]
    assert readiness(workers)["models"]["pulid-lightning"]["variants"] == ["default", "realistic"]


def test_how_many_wait_is_told_for_each_model(client: Client, worker: FakeWorker) -> None:
    """Over all variants, and also for one that nobody serves."""
    worker.heartbeat(ic_light=READY_DEMO)

    def waiting() -> dict[str, object]:
        models = client.get("/health/ready").json()["models"]
        return {slug: model["waiting"] for slug, model in models.items()}

    assert waiting() == {"pulid-lightning": 0, "ic-light": 0}
    ids = [client.submit("ic-light"), client.submit("ic-light")]
    for checkpoint in ("default", "artistic", "realistic"):
        client.submit("pulid-lightning", checkpoint_model=checkpoint)
    assert waiting() == {"pulid-lightning": 3, "ic-light": 2}
    worker.start(ids[0])
    assert waiting() == {"pulid-lightning": 3, "ic-light": 1}
    client.delete(f"/v2/requests/{ids[1]}")
    assert waiting() == {"pulid-lightning": 3, "ic-light": 0}


def test_without_redis_nobody_knows_how_many_wait(make_settings: MakeSettings, tmp_path: Path) -> None:
    with serving(make_settings(redis_url=f"unix://{tmp_path / 'nobody-listens'}")) as client:
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert {model["waiting"] for model in answer.json()["models"].values()} == {None}
