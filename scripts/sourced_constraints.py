"""Prints constraints.txt as it applies beside a sourced ROS 2: what that Python already has stays as it is.

ROS's message packages are compiled against its NumPy: a newer one may come in, but never one of another major version.
    python3 scripts/sourced_constraints.py constraints.txt > ...
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
import re
import sys


def installed(name):
    """The version that this Python has of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def relax(lines):
    """Yields the lines that still apply."""
    numpy_major = int((installed("numpy") or "2").split(".")[0])
    yield f"numpy>={numpy_major},<{numpy_major + 1}"
    for line in lines:
        name = re.match(r"[\w.-]*", line).group()
        needs_numpy_2 = name == "opencv-python-headless"
        if name and not installed(name) and name != "numpy" and not (needs_numpy_2 and numpy_major < 2):
            yield line


if __name__ == "__main__":
    print("\n".join(relax(Path(sys.argv[1]).read_text().splitlines())))
