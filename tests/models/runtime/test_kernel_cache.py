"""Folders of the kernel caches, and the compile workers."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.runtime.kernel_cache import locate_libcuda, set_cache_dirs, stop_compile_workers

REPOSITORY = Path(__file__).parents[3]
VARIABLES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
LIBCUDA = "TRITON_LIBCUDA_PATH"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set before they are removed, so that what a test leaves behind is removed too.
    for name in (*VARIABLES, LIBCUDA):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_kernels_are_cached_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    set_cache_dirs(Path("var/compiled"))
    assert [os.environ[name] for name in VARIABLES] == [
        str(tmp_path / "var/compiled/inductor"),
        str(tmp_path / "var/compiled/triton"),
    ]


@pytest.mark.slow
def test_a_worker_sets_the_folder_before_the_compiler_does(tmp_path: Path) -> None:
    """What is imported up to there must not bring the compiler in."""
    code = (
        "import os, sys, workers.engine.worker; from pathlib import Path; "
        "from models.runtime.kernel_cache import set_cache_dirs; set_cache_dirs(Path(sys.argv[1])); import diffusers; "
        "sys.exit(os.environ['TORCHINDUCTOR_CACHE_DIR'] != sys.argv[1] + '/inductor')"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY).returncode == 0


def test_the_libraries_own_variables_take_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache" / "triton"))
    set_cache_dirs(tmp_path / "compiled")
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "cache" / "triton")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "compiled" / "inductor")


def test_a_process_that_compiles_nothing_sets_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    set_cache_dirs(None)
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "triton")
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


@pytest.fixture(params=["below a file", "below /proc", "a file itself", "read-only"])
def unwritable(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place where no folder can be made, not even by root."""
    (file := tmp_path / "file").write_bytes(b"")
    if request.param == "read-only":
        made = Path.mkdir

        def mkdir(path: Path, *args: Any, **options: Any) -> None:
            if path.is_relative_to(tmp_path / "cache"):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            made(path, *args, **options)

        monkeypatch.setattr(Path, "mkdir", mkdir)
    places = {"below a file": file / "cache", "below /proc": Path("/proc/cache"), "a file itself": file}
    return places.get(request.param, tmp_path / "cache")


@pytest.mark.parametrize("by", ["variable", "folder"])
def test_an_unwritable_folder_is_replaced_by_a_temporary_one(
    unwritable: Path, by: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if by == "variable":
        for name in VARIABLES:
            monkeypatch.setenv(name, str(unwritable))
    set_cache_dirs(None if by == "variable" else unwritable)
    folders = {Path(os.environ[name]) for name in VARIABLES}
    assert len(folders) == 2, "each has its own"
    for folder in folders:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "kernels are code: nobody else may write there"
        (folder / "kernel.so").write_bytes(b"")
        shutil.rmtree(folder)
    assert caplog.text.count(f"compiled kernels cannot be cached in {unwritable}") == 2


_READ_ONLY_START = """
import os, sys
from pathlib import Path
from models.runtime.kernel_cache import set_cache_dirs
set_cache_dirs(None)
import diffusers
print(os.environ["TORCHINDUCTOR_CACHE_DIR"])
"""


@pytest.mark.slow
def test_diffusers_is_imported_though_the_folder_that_an_image_names_cannot_be_made(tmp_path: Path) -> None:
    """Torch makes that folder on import. What takes its place is gone when the process is."""
    (tmp_path / "file").write_bytes(b"")
    named = {name: str(tmp_path / "file" / name) for name in VARIABLES}
    command = [sys.executable, "-c", _READ_ONLY_START]
    run = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **named}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not Path(run.stdout.strip()).exists()


def test_where_nothing_was_compiled_there_is_nothing_to_stop() -> None:
    """And Inductor is not imported, which would take seconds."""
    code = (
        "import sys; from models.runtime.kernel_cache import stop_compile_workers; stop_compile_workers(); "
        "sys.exit('torch._inductor.async_compile' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_compile_workers_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import async_compile

    ended: list[bool] = []
    monkeypatch.setattr(async_compile, "_pool_set", [type("Pool", (), {"shutdown": lambda _: ended.append(True)})()])
    monkeypatch.setattr(async_compile, "after_fork", lambda: None)
    stop_compile_workers()
    assert ended == [True]


_SECOND_START = """
import sys
from pathlib import Path
from models.runtime.kernel_cache import set_cache_dirs
set_cache_dirs(Path(sys.argv[1]))

from torch._dynamo.utils import counters
from models.runtime.compiler import Compiler
from models.runtime.runner import Execution, Runner
from tests.models.runtime.networks import Little, blend, little_inputs

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


def mapped(tmp_path: Path, *files: Path) -> Path:
    """A list of a process's mapped files, as Linux writes it."""
    lines = [f"7f00-7f01 r-xp 00000000 fe:00 {number}                    {file}\n" for number, file in enumerate(files)]
    listed = tmp_path / "maps"
    listed.write_text("7ffd-7ffe rw-p 00000000 00:00 0\n" + "".join(lines))
    return listed


def test_triton_is_told_which_driver_is_loaded(tmp_path: Path) -> None:
    """The file that is mapped has a version in its name; a folder without the name that Triton links does not count."""
    driver, other = tmp_path / "the driver", tmp_path / "other"
    for folder in (driver, other):
        folder.mkdir()
        (folder / "libcuda.so.580.95").touch()
    (driver / "libcuda.so.1").symlink_to("libcuda.so.580.95")
    files = [
        other / "libcuda.so.580.95",
        driver / "libcuda.so.580.95",
        driver / "libcuda.so.580.95",
        Path("/lib/libc.so"),
    ]
    locate_libcuda(mapped(tmp_path, *files))
    assert os.environ[LIBCUDA] == str(driver)


def test_without_a_driver_and_where_it_is_named_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locate_libcuda()
    assert LIBCUDA not in os.environ
    (tmp_path / "libcuda.so.1").touch()
    monkeypatch.setenv(LIBCUDA, "/somewhere")
    locate_libcuda(mapped(tmp_path, tmp_path / "libcuda.so.1"))
    assert os.environ[LIBCUDA] == "/somewhere"
