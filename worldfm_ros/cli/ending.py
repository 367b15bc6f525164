"""How every command of this project ends."""

from __future__ import annotations

from collections.abc import Callable
import sys

INTERRUPTED = 130  # as a shell counts: 128 + SIGINT


def exit_code(command: Callable[[], int | None]) -> int:
    """Run a command. What its user can mend is one line on stderr and exit code 2; Ctrl-C is exit code 130."""
    try:
        return command() or 0
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
