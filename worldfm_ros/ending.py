"""How every command and node of this project ends: what a user can mend is a line, the rest is said to be our fault."""

from __future__ import annotations

from collections.abc import Callable
import os
import sqlite3
import sys
import traceback

from worldfm_ros.kernel_cache import give_kernels_a_folder

INTERRUPTED = 130  # as a shell counts: 128 + SIGINT
FAILED = 2
DEBUG = "--debug"  # shows the traceback of an error
DEBUG_VARIABLE = "WORLDFM_DEBUG"  # the same, for the nodes that a command starts
REPORT = "report it with its traceback (add --debug) where you got worldfm_ros, see README.md"

# exceptions, ours and foreign, whose text tells a user what to do
MENDABLE: tuple[type[BaseException], ...] = (ValueError, OSError, sqlite3.Error)
HINTS = (  # (kind, what is in the text, what helps); for exceptions whose own text does not say it
    (ImportError, "rclpy", "a ROS 2 of another Python is in PYTHONPATH: unset it, or source the ROS 2 of this Python"),
    (RuntimeError, "cannot cache", "numba finds no folder for compiled code: set NUMBA_CACHE_DIR to one that can be "
                                   "written"),
    (MemoryError, "", "there is not enough memory for this"),
)


def explained(error: BaseException) -> str:
    """The one line that a user is told about an exception."""
    text = " ".join(str(error).split())
    for kind, part, help_ in HINTS:
        if isinstance(error, kind) and part in text:
            return f"{text}: {help_}" if text else help_
    if isinstance(error, MENDABLE) or (isinstance(error, RuntimeError) and type(error) is RuntimeError):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}; this is a fault of worldfm_ros, not yours: {REPORT}"


def tell(error: BaseException) -> None:
    """Print the line on stderr; behind a traceback when that was asked for. To be called while it is handled."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
    print(f"error: {explained(error)}", file=sys.stderr)


def take_debug() -> None:
    """Remember that --debug is among the words of the command line, for this process and those that it starts."""
    if DEBUG in sys.argv:
        sys.argv.remove(DEBUG)
        os.environ[DEBUG_VARIABLE] = "1"


def exit_code(command: Callable[[], int | None]) -> int:
    """Run a command. An error is one line on stderr (with --debug behind a traceback), exit code 2; Ctrl-C is 130."""
    take_debug()
    try:
        give_kernels_a_folder(os.environ)
        return command() or 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last place where one can be turned into a line
        tell(error)
        return FAILED
