"""schemathesis, with all of its default checks, against the OpenAPI document and the gateway that it describes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.settings import GatewaySettings
from tests.server.conftest import NEVER
from tests.server.support import Client, serving, working

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
KEY = "SG_0123456789abcdef"
# A request that was cancelled has FAILED, which the hosted API answers with 422: that is its state, and no refusal.
CONFIG = """
[[operations]]
include-path-regex = "/requests/"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "422"]
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("completing", "excluded", "examples"),
    [
        pytest.param(True, r"^cancel_request$", 2, id="requests are completed"),
        pytest.param(True, r"^cancel_request$", 100, id="requests are completed, many", marks=pytest.mark.slow),
        # With few examples no picture is ever found, which is a warning.
        pytest.param(False, r"^(run_|request_events$)", 100, id="requests wait, many", marks=pytest.mark.slow),
    ],
)
def test_all_default_checks(redis_url: str, tmp_path: Path, completing: bool, excluded: str, examples: int) -> None:
    """Between them the two cover every operation: only what waits can be cancelled, only what ends waited for."""
    settings = GatewaySettings(
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        janitor_interval_s=NEVER,
        api_keys=KEY,
        queue_limit=1_000_000,
        queue_limit_per_key=1_000_000,
        max_output_megapixels=1_000_000,
        fetch_allow_cidrs="127.0.0.0/8",
    )
    with serving(settings) as client, working(settings, completing):
        result = run(client, tmp_path, excluded, examples)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert "No issues found" in result.stdout, result.stdout[-4000:]


def run(client: Client, folder: Path, excluded: str, examples: int) -> subprocess.CompletedProcess[str]:
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [
        SCHEMATHESIS,
        "--config-file",
        folder / "schemathesis.toml",
        "run",
        client.base_url.join("/openapi.json"),
    ]
    options = ["--header", f"x-api-key: {KEY}", "--exclude-operation-id-regex", excluded, "--seed", "1"]
    options += ["--max-examples", str(examples), "--request-timeout", "60", "--continue-on-failure"]
    options += ["--suppress-health-check", "all"]  # of how fast data are made up, on a machine that others use too
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.server.schemathesis_hooks"}
    return subprocess.run(
        [*map(str, command), *options], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
