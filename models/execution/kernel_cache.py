"""What compiling leaves behind: kernels on disk, which the next start finds, and processes, which it should not."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def keep_kernels(folder: Path) -> None:
    """Let Inductor and Triton keep kernels below `folder`, unless their own variables name another place.

    To be called before torch's compiler is imported, as diffusers does: it names a place itself. Kernels are code that
    is run as it is: nobody but the worker may be able to write there.
    """
    for variable, name in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
        os.environ.setdefault(variable, str((folder / name).absolute()))


def dismiss_compilers() -> None:
    """End the processes in which Inductor compiles: each keeps hundreds of megabytes for as long as it lives."""
    # Not imported for this: where nothing was compiled there is none.
    if inductor := sys.modules.get("torch._inductor.async_compile"):
        inductor.shutdown_compile_workers()
