"""The chart's README explains every value, and every setting is reached by the value that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from server.settings import GatewaySettings
from tests.deploy.chart import CHART, VALUES, Manifest, pods, render, variables
from tests.deploy.files import variables_of
from workers.settings import CommonSettings, WorkerSettings

README = (CHART / "README.md").read_text(encoding="utf-8")
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
ROWS = dict(re.findall(r"^\| `([\w.]+)` \| (.+?) \| .+ \|$", README, re.MULTILINE))
"""Default, as the README shows it, by value."""
VALUE_OF = dict(re.findall(r"^\| `(FACELIGHT_\w+)` \| `([\w.]+)` \|$", README, re.MULTILINE))
"""The value by which a setting is reached."""
COMMON, GATEWAY, WORKER = (variables_of(kind) for kind in (CommonSettings, GatewaySettings, WorkerSettings))
SECRETS = {"FACELIGHT_REDIS_URL", "FACELIGHT_API_KEYS"}


def leaves(values: Manifest, prefix: str = "") -> Iterator[str]:
    """Paths of all values."""
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}.")
        else:
            yield path


def value_at(path: str) -> Any:
    value: Any = VALUES
    for name in path.split("."):
        value = value[name]
    return value


def test_every_value_is_explained() -> None:
    explained = {path for path in ROWS if not path.startswith("FACELIGHT_")}
    missing = [path for path in leaves(VALUES) if not any(f"{path}.".startswith(f"{row}.") for row in explained)]
    assert not missing


@pytest.mark.parametrize("path", sorted(ROWS))
def test_the_defaults_are_true(path: str) -> None:
    value = value_at(path)
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    assert ROWS[path] == ("not set" if value in ("", [], {}) else f"`{shown}`")


def test_every_setting_is_in_the_table() -> None:
    assert VALUE_OF.keys() == COMMON | GATEWAY | WORKER


def test_the_schema_knows_all_settings_and_no_others() -> None:
    """But for those that have a value of another name."""

    def named(values: Manifest) -> set[str]:
        return set(values["properties"]["settings"]["propertyNames"]["enum"])

    parts = {
        "settings": (named(SCHEMA), COMMON),
        "gateway.settings": (named(SCHEMA["properties"]["gateway"]), GATEWAY - COMMON),
        "workers.CLASS.settings": (named(SCHEMA["$defs"]["workerClass"]), WORKER - COMMON),
    }
    for prefix, (known, settings) in parts.items():
        assert known == {name for name in settings if VALUE_OF[name] == f"{prefix}.{name}"}


def put(values: Manifest, path: str, value: Any) -> None:
    *parents, last = path.replace("CLASS", "gpu").split(".")
    for name in parents:
        values = values.setdefault(name, {})
    values[last] = value


def probe(name: str) -> Any:
    """What a value is set to, and what its variable must be then."""
    typed = {
        "FACELIGHT_REDIS_URL": ({"name": "secret", "key": "url"}, ("secret", "url")),
        "FACELIGHT_API_KEYS": ({"name": "secret", "key": "keys"}, ("secret", "keys")),
        "FACELIGHT_STORE": ("s3://bucket/prefix", "s3://bucket/prefix"),
        "FACELIGHT_PORT": (9000, "9000"),
        "FACELIGHT_METRICS_PORT": (9100, "9100"),
        "FACELIGHT_MODELS": (["ic-light"], "ic-light"),
        "FACELIGHT_CHECKPOINTS": (["default", "artistic"], "default,artistic"),
        "FACELIGHT_WEIGHTS_DIR": ("/elsewhere", "/elsewhere/installed"),
        "FACELIGHT_DATA_DIR": ("/pictures", "/pictures"),
        "FACELIGHT_DRAIN_DELAY_S": (2.5, "2.5"),
        "FACELIGHT_REQUEST_TTL_S": (1000000, "1000000"),
        "FACELIGHT_OFFLINE": (True, "true"),
    }
    return typed.get(name, (f"value of {name}", f"value of {name}"))


@pytest.mark.slow
def test_every_setting_reaches_its_pods_and_no_others() -> None:
    values: Manifest = {
        "store": {"type": "s3"},
        "networkPolicy": {"workerTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
    }
    for name, path in VALUE_OF.items():
        put(values, path, probe(name)[0])
    found = {name: variables(pod["spec"]["containers"][0]) for name, pod in pods(render(**values))}
    for name in VALUE_OF:
        expected = probe(name)[1]
        assert found["facelight-gateway"].get(name) == (expected if name in GATEWAY else None), name
        assert found["facelight-worker-gpu"].get(name) == (expected if name in WORKER else None), name
    (job,) = [each for name, each in found.items() if "weights" in name]
    assert {name for name in job if name.startswith("FACELIGHT_")} == {
        "FACELIGHT_DATA_DIR",
        "FACELIGHT_OFFLINE",
        "FACELIGHT_WEIGHTS_DIR",
    }


@pytest.mark.slow
def test_settings_that_are_not_given_have_the_programs_own_defaults() -> None:
    found = {name: variables(pod["spec"]["containers"][0]) for name, pod in pods(render())}
    given = {name for each in found.values() for name in each if name.startswith("FACELIGHT_")}
    told = set(re.findall(r"`(FACELIGHT_\w+)`", README.rpartition("Not set here")[2])) - {"FACELIGHT_JOB_TIMEOUT_S"}
    assert given == told | SECRETS | {"FACELIGHT_PORT", "FACELIGHT_MODELS"}


@pytest.mark.slow
def test_a_class_may_have_other_settings_than_the_rest() -> None:
    workers = {"gpu": {}, "small": {"settings": {"FACELIGHT_MAX_BATCH": 2}}}
    manifests = render(workers=workers, workerDefaults={"settings": {"FACELIGHT_MAX_BATCH": 4, "FACELIGHT_FP8": True}})
    found = {name: variables(pod["spec"]["containers"][0]) for name, pod in pods(manifests)}
    large, small = found["facelight-worker-gpu"], found["facelight-worker-small"]
    assert (large["FACELIGHT_MAX_BATCH"], small["FACELIGHT_MAX_BATCH"]) == ("4", "2")
    assert (large["FACELIGHT_FP8"], small["FACELIGHT_FP8"]) == ("true", "true")
