"""What compiling leaves behind: kernels on disk, which the next start finds, and processes, which it should not."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

_log = logging.getLogger(__name__)


def keep_kernels(folder: Path | None) -> None:
    """Let Inductor and Triton keep kernels below `folder`, unless their own variables name another place.

    None is for a process that compiles nothing. To be called before torch's compiler is imported, as diffusers does:
    it names a place itself, and makes the one that is named, whether or not anything is compiled. Kernels are code that
    is run as it is: nobody but the worker may be able to write there.

    Where nothing can be written, they are kept in a folder that goes with this process, which a warning tells. Raises
    `FileNotFoundError` if there is no place for temporary files either.
    """
    for variable, name in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
        named = os.environ.get(variable) or (folder and folder / name)
        if not named:
            continue
        wanted = Path(named).absolute()
        complaint = _unwritable(wanted)
        os.environ[variable] = str(wanted) if complaint is None else _passing(wanted, complaint)


def _unwritable(folder: Path) -> OSError | None:
    """Make a folder; why nothing can be written into it, or None."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error
    return None


def _passing(wanted: Path, complaint: OSError) -> str:
    folder = tempfile.mkdtemp(prefix="facelight-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _log.warning("compiled kernels cannot be kept in %s (%s); they go with this process", wanted, complaint.strerror)
    return folder


def dismiss_compilers() -> None:
    """End the processes in which Inductor compiles: each keeps hundreds of megabytes for as long as it lives."""
    # Not imported for this: where nothing was compiled there is none.
    if inductor := sys.modules.get("torch._inductor.async_compile"):
        inductor.shutdown_compile_workers()
