"""What workers say of themselves, and what that means for a request."""

from __future__ import annotations

from workers.presence import ModelReport, ModelState, Presence, WorkerReport, lacking

WANTED = ("background_image",)


def worker(name: str, state: ModelState = ModelState.READY, *extensions: str) -> WorkerReport:
    return WorkerReport(name, "cpu", {"ic-light": ModelReport(state, "real", extensions=extensions)})


def test_reports_come_back_as_they_were_given(presence: Presence) -> None:
    reports = [worker("a", ModelState.READY, *WANTED), worker("b", ModelState.LOADING)]
    for report in reports:
        presence.announce(report)
    assert presence.workers() == reports


def test_an_extension_is_lacking_if_no_serving_worker_has_it() -> None:
    assert lacking([worker("a"), worker("b")], "ic-light", WANTED) == {"background_image"}
    assert lacking([worker("a"), worker("b", ModelState.LOADING, *WANTED)], "ic-light", WANTED) == {"background_image"}


def test_one_serving_worker_that_has_it_is_enough() -> None:
    assert lacking([worker("a"), worker("b", ModelState.READY, *WANTED)], "ic-light", WANTED) == set()


def test_nothing_is_lacking_while_nobody_serves_the_model() -> None:
    assert lacking([], "ic-light", WANTED) == set()
    assert lacking([worker("a", ModelState.LOADING)], "ic-light", WANTED) == set()
    assert lacking([worker("a")], "pulid-lightning", WANTED) == set()
