"""Files that are there with all their content or not at all, and folders that one process writes into."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from typing import IO
import warnings

LOCK = ".lock"


def write_whole(file: Path, content: bytes) -> None:
    """Whatever happens meanwhile, the old file stays or the new one is there. Raises OSError that names the file."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno), str(file)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, figures: dict) -> None:
    """Write the figures; a crash leaves the old file or the new one."""
    write_whole(path, (json.dumps(figures, indent=2) + "\n").encode())


def claim(folder: Path) -> IO:
    """Keep other processes out of a folder until the file that is returned, its LOCK, is closed. Raises ValueError when
    another one is writing into it."""
    file = open(folder / LOCK, "w")  # noqa: SIM115: the caller's
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: a killed run's workers would keep it
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.close()
            raise ValueError(f"another run is writing into {folder}; wait for its end, or choose another folder"
                             ) from None
        warnings.warn(f"{folder} cannot be locked ({error.strerror}); let no other run write there", stacklevel=3)
    return file
