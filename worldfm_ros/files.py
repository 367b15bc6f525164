"""Files that are there with all their content or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path


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
