"""Where kernels are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.execution.kernel_cache import dismiss_compilers, keep_kernels

REPOSITORY = Path(__file__).parents[3]
VARIABLES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set before they are removed, so that what a test leaves behind is removed too.
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_kernels_are_kept_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keep_kernels(Path("var/compiled"))
    assert [os.environ[name] for name in VARIABLES] == [
        str(tmp_path / "var/compiled/inductor"),
        str(tmp_path / "var/compiled/triton"),
    ]


def test_a_worker_has_named_the_folder_before_the_compiler_can() -> None:
    """What is imported up to there must not bring the compiler in."""
    code = (
        "import os, sys, workers.worker; from pathlib import Path; "
        "from models.execution.kernel_cache import keep_kernels; keep_kernels(Path('/kept')); import diffusers; "
        "sys.exit(os.environ['TORCHINDUCTOR_CACHE_DIR'] != '/kept/inductor')"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_the_libraries_own_variables_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/cache/triton")
    keep_kernels(Path("/var/compiled"))
    assert os.environ["TRITON_CACHE_DIR"] == "/cache/triton"


def test_where_nothing_was_compiled_nothing_is_ended() -> None:
    """And Inductor is not imported, which would take seconds."""
    code = (
        "import sys; from models.execution.kernel_cache import dismiss_compilers; dismiss_compilers(); "
        "sys.exit('torch._inductor.async_compile' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_compilers_processes_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import async_compile

    ended: list[bool] = []
    monkeypatch.setattr(async_compile, "_pool_set", [type("Pool", (), {"shutdown": lambda _: ended.append(True)})()])
    monkeypatch.setattr(async_compile, "after_fork", lambda: None)
    dismiss_compilers()
    assert ended == [True]


_SECOND_START = """
import sys
from pathlib import Path
from models.execution.kernel_cache import keep_kernels
keep_kernels(Path(sys.argv[1]))

from torch._dynamo.utils import counters
from models.execution.compiler import Compiler
from models.execution.runner import Execution, Runner
from tests.models.execution.networks import Little, blend, little_inputs

runner = Runner(blend, Execution(Compiler(), stance="fail_on_recompile"))
runner.compile(Little(), little_inputs(2, 5, 7, 3), little_inputs(4, 6, 9, 8))
runner(Little(), *little_inputs(3, 8, 8, 8))
found = counters["inductor"]
print(found["fxgraph_cache_hit"], found["fxgraph_cache_miss"])
"""


@pytest.mark.slow
def test_a_second_start_finds_the_kernels_of_the_first(tmp_path: Path) -> None:
    """On the CPU it needs a C++ compiler."""
    command = [sys.executable, "-c", _SECOND_START, str(tmp_path)]
    runs = [subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True) for _ in range(2)]
    assert [run.stdout.split() for run in runs] == [["0", "1"], ["1", "0"]]
