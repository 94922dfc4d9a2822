"""What the compilers need of the machine: their caches on disk, which the next start uses, the driver's library, and
their worker processes, which end after compiling."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

_MAPPED: Final = Path("/proc/self/maps")
_LIBCUDA: Final = "libcuda.so.1"
_log = logging.getLogger(__name__)


def set_cache_dirs(folder: Path | None) -> None:
    """Have Inductor and Triton cache kernels below `folder`, unless their own variables name another folder.

    None is for a process that compiles nothing. To be called before torch's compiler is imported, as diffusers does:
    it sets a default itself, and creates the folder that is named, whether or not anything is compiled. Kernels
    are code that is executed unchecked: only the worker may have write permission there.

    Where nothing can be written, a temporary folder that is removed at exit takes its place, with a warning. Raises
    `FileNotFoundError` if there is no place for temporary files either.
    """
    for variable, name in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
        named = os.environ.get(variable) or (folder and folder / name)
        if not named:
            continue
        wanted = Path(named).absolute()
        error = _write_error(wanted)
        os.environ[variable] = str(wanted) if error is None else _temporary(wanted, error)


def _write_error(folder: Path) -> OSError | None:
    """Create a folder; why nothing can be written into it, or None."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error
    return None


def _temporary(wanted: Path, error: OSError) -> str:
    folder = tempfile.mkdtemp(prefix="facelight-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _log.warning("compiled kernels cannot be cached in %s (%s); they are removed at exit", wanted, error.strerror)
    return folder


def locate_libcuda(mapped: Path = _MAPPED) -> None:
    """Tell Triton where the driver's library is that this process has loaded, unless its own variable does.

    It asks the linker's cache otherwise, which names no driver where a container's tree is read-only or the driver lies
    elsewhere, and then compiles nothing. `mapped` lists the process's mapped files.
    """
    folders = dict.fromkeys(
        Path(line.split(maxsplit=5)[-1].strip()).parent
        for line in mapped.read_text().splitlines()
        if "libcuda.so" in line
    )
    if found := [folder for folder in folders if (folder / _LIBCUDA).exists()]:
        os.environ.setdefault("TRITON_LIBCUDA_PATH", str(found[0]))


def stop_compile_workers() -> None:
    """End Inductor's compile workers: each of these processes holds hundreds of megabytes until it ends."""
    # Not imported for this: where nothing was compiled there are none.
    if inductor := sys.modules.get("torch._inductor.async_compile"):
        inductor.shutdown_compile_workers()
