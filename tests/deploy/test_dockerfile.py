"""The Dockerfile keeps the rules that make an image small, repeatable and harmless."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

from server.settings import GatewaySettings
from tests.deploy.dockerfile import Step, ancestry, environment, parse
from workers.settings import WorkerSettings

REPOSITORY = Path(__file__).parents[2]
STAGES = parse(REPOSITORY / "Dockerfile")
IMAGES = ("gateway", "worker")
COPIED = {
    source
    for stage in STAGES.values()
    for step in stage.all("COPY")
    if "from" not in step.flags
    for source in step.words[:-1]
}
"""What comes from the repository."""
STEPS = [(stage, step) for stage in STAGES.values() for step in stage.steps]


def image_steps(name: str, keyword: str) -> list[Step]:
    return [step for stage in ancestry(STAGES, name) for step in stage.all(keyword)]


def test_the_parser_reads_what_the_rules_look_at(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(
        "ARG BASE=debian:12\n# comment\nFROM ${BASE} AS one\nENV A=1 \\\n    # inside\n    B='2 3'\n"
        'FROM one AS two\nCOPY --from=one /a b /c\nENTRYPOINT ["x", "-y"]\nCMD x -y\n'
    )
    stages = parse(path)
    assert [(stage.name, stage.base) for stage in stages.values()] == [("one", "debian:12"), ("two", "one")]
    assert environment(stages, "two") == {"A": "1", "B": "2 3"}
    copy, entrypoint, command = stages["two"].steps
    assert (copy.flags, copy.words) == ({"from": "one"}, ["/a", "b", "/c"])
    assert entrypoint.exec_form == ["x", "-y"]
    assert command.exec_form is None


def test_every_base_is_pinned_by_tag_and_digest() -> None:
    for stage in STAGES.values():
        if stage.base not in STAGES:
            assert re.fullmatch(r"[a-z./]+:[0-9][\w.-]+@sha256:[0-9a-f]{64}", stage.base)


def test_the_two_images_are_the_last_stages() -> None:
    assert tuple(STAGES)[-2:] == IMAGES


@pytest.mark.parametrize("step", [pytest.param(step, id=f"{stage.name}-{step.keyword}") for stage, step in STEPS])
def test_no_step_is_one_of_the_known_mistakes(step: Step) -> None:
    assert step.keyword not in ("ADD", "MAINTAINER", "VOLUME", "ONBUILD", "SHELL")
    if step.keyword == "WORKDIR":
        assert step.rest.startswith("/")
    if step.keyword == "ENV":
        assert not [name for name in step.pairs() if re.search("KEY|TOKEN|PASSWORD|SECRET", name)]


def complaints(run: str) -> list[str]:
    """What is wrong with the shell line of a RUN step."""
    found = re.findall(r"\bsudo\b|\bcurl\b|\bwget\b|chmod 777|apt-get upgrade", run)
    if "apt-get install" in run:
        found += [part for part in ("--no-install-recommends", "rm -rf /var/lib/apt/lists/*") if part not in run]
    for install in re.findall(r"pip install ([^&]*)", run):
        wanted = ["--no-cache-dir", "--no-deps", *(["--require-hashes"] if "--requirement" in install else [])]
        found += [part for part in wanted if part not in install]
    return found


def test_run_steps_are_clean() -> None:
    runs = [step.rest for _, step in STEPS if step.keyword == "RUN"]
    assert len(runs) >= 5
    assert [complaint for run in runs for complaint in complaints(run)] == []
    assert complaints("apt-get install x") == ["--no-install-recommends", "rm -rf /var/lib/apt/lists/*"]
    assert complaints("pip install --no-deps --requirement x") == ["--no-cache-dir", "--require-hashes"]


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_a_fixed_user_without_rights(name: str) -> None:
    keywords = [step.keyword for step in STAGES[name].steps]
    assert [step.rest for step in image_steps(name, "USER")] == ["10001:10001"]
    assert keywords.index("USER") < keywords.index("ENTRYPOINT")
    assert "RUN" not in keywords, "an image is put together of what build stages made"


@pytest.mark.parametrize("name", IMAGES)
def test_commands_are_in_exec_form(name: str) -> None:
    """A shell in between would swallow SIGTERM."""
    (entrypoint,) = image_steps(name, "ENTRYPOINT")
    (healthcheck,) = image_steps(name, "HEALTHCHECK")
    assert entrypoint.exec_form == ["python", "-m", {"gateway": "server", "worker": "workers"}[name]]
    assert healthcheck.exec_form
    assert healthcheck.exec_form[0] == "python"
    assert [step.rest for step in image_steps(name, "STOPSIGNAL")] == ["SIGTERM"]


@pytest.mark.parametrize("name", IMAGES)
def test_caches_lie_where_a_read_only_tree_can_be_written(name: str) -> None:
    variables = environment(STAGES, name)
    caches = [
        value for key, value in variables.items() if key in ("HOME", "HF_HOME") or "CACHE" in key or "CONFIG" in key
    ]
    assert len(caches) >= 5
    assert all(value == "/tmp" or value.startswith(("/tmp/", "/cache/")) for value in caches)
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"


def test_what_compiles_kernels_and_keeps_them_is_the_workers_alone() -> None:
    """Triton needs a C compiler, and its kernels are code that the worker runs as it finds it."""
    variables = environment(STAGES, "worker")
    assert {variables[f"{name}_CACHE_DIR"].rpartition("/")[0] for name in ("TORCHINDUCTOR", "TRITON")} == {"/cache"}
    (run,) = [step.rest for stage in ancestry(STAGES, "worker") for step in stage.all("RUN") if "/cache" in step.rest]
    assert re.search(r"apt-get install .*\bgcc libc6-dev\b", run)
    assert re.search(r"install --directory --owner=10001 --group=10001 --mode=0700 /cache$", run)
    assert not [value for value in environment(STAGES, "gateway").values() if value.startswith("/cache")]
    assert not [step for step in image_steps("gateway", "RUN") if re.search(r"gcc|/cache", step.rest)]


@pytest.mark.parametrize(("name", "kind"), [("gateway", GatewaySettings), ("worker", WorkerSettings)])
def test_settings_that_an_image_makes_exist(name: str, kind: type[GatewaySettings | WorkerSettings]) -> None:
    made = {key for key in environment(STAGES, name) if key.startswith("FACELIGHT_")}
    assert made
    assert made <= {f"FACELIGHT_{field.upper()}" for field in kind.model_fields}


def test_all_that_is_copied_exists_and_reaches_the_engine() -> None:
    kept = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [
        word for _, step in STEPS if step.keyword == "COPY" and "from" not in step.flags for word in step.words[:-1]
    ]
    assert sources
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), f"{source} is held back by .dockerignore"


def test_what_is_kept_for_the_engine_is_copied() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    copied = {word for _, step in STEPS if step.keyword == "COPY" for word in step.words[:-1]}
    assert "*" in lines, "nothing reaches the engine unless it is named"
    assert {line[1:] for line in lines if line.startswith("!")} <= copied | {
        "deploy/gateway.lock",
        "deploy/worker.lock",
    }


def test_stages_that_are_copied_from_come_before() -> None:
    names = list(STAGES)
    for stage, step in STEPS:
        if step.keyword == "COPY" and "from" in step.flags:
            assert names.index(step.flags["from"]) < names.index(stage.name)
