"""Where compiled kernels are kept when this package lies where nothing can be written, and nobody has a home."""

from __future__ import annotations

from collections.abc import MutableMapping
import os
from pathlib import Path
import tempfile

VARIABLE = "NUMBA_CACHE_DIR"
KERNELS = Path(__file__).parent / "world"  # one of the folders with kernels; they are installed alike


def give_kernels_a_folder(environment: MutableMapping[str, str]) -> None:
    """Set NUMBA_CACHE_DIR when numba would find no folder: it refuses to compile then.

    To be called before numba is imported. A folder that the user has chosen stays; where it cannot be written numba
    looks on by itself, and here for it only when that would find nothing.
    """
    chosen = environment.get(VARIABLE)
    home = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folders = [*([Path(chosen)] if chosen else []), KERNELS / "__pycache__", Path(home) / "numba"]
    if not any(map(_can_be_written, folders)):
        environment[VARIABLE] = str(Path(tempfile.gettempdir()) / f"worldfm_numba_{os.getuid()}")


def _can_be_written(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True
