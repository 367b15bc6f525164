"""The shell commands of README and docs: which there are, and each of a page run as it is written, one after the other.

    python test/docs_commands.py [PAGE ...]                       lists them
    python test/docs_commands.py PAGE ... --run FOLDER [--limit SECONDS] [--skip REGEX]    runs them in FOLDER

In a fenced block without a language, or of the shell's, the lines that begin with `$` are the commands, where there are
any; else those that begin with a program's name. A command that is not over after the limit gets Ctrl-C, for those
that run until they are stopped. Ends with 1 where a command failed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
import os
from pathlib import Path
import re
import shlex
import signal
import subprocess
import sys
import time

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")),
         *sorted((ROOT / "models").glob("*/README.md"))]
PROGRAMS = {"worldfm", "make", "python", "python3", "pip", "ros2", "colcon", "accelerate", "torchrun", "source", "cd",
            "cp", "cat", "echo", "curl", "for", "pytest"}
NAMED = re.compile(r"`((?:worldfm|make|python -m|python \w+/|pytest|ros2 \w+) ?[^`\n]+)`")  # in backticks
BETWEEN = {"&&", "||", "|", ";", "&"}  # the commands of a line
LOOP = re.compile(r"for (\w+) in (.*?); do (.*?);? done")
STOPPED = 124  # told of a command that had to be stopped, as `timeout` does
PATIENCE = 30.0  # seconds that it then has to end


@dataclass(frozen=True)
class Command:
    """What is typed in one go: of a page, at a line of it."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.text}"

    @property
    def parts(self) -> Iterator[list[str]]:
        """The words of each of the line's commands, of each round of a loop, without the environment before and the
        redirection behind them. Raises ValueError for a quote that does not close.
        """
        text = LOOP.sub(lambda loop: ";".join(loop[3].replace(f"${loop[1]}", each) for each in loop[2].split()),
                        self.text)
        reader = shlex.shlex(text, posix=True, punctuation_chars=";&")
        reader.whitespace_split = True
        for between, group in groupby(reader, BETWEEN.__contains__):
            words = list(group)
            while words and re.fullmatch(r"\w+=\S*", words[0]):
                words = words[1:]
            if words and not between:
                yield words[:words.index(">")] if ">" in words else words


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """Number of the first line, language and text of each fenced block of a page."""
    text = page.read_text()
    for found in re.finditer(r"^ *```(\w*)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        yield text[:found.start(2)].count("\n") + 1, found[1], found[2]


def typed(first: int, block: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line of a block; those that go on in the next one, and loops, as one."""
    begun: list[str] = []
    for number, row in enumerate(block.splitlines(), first):
        begun.append(row.strip().removesuffix("\\"))
        whole = "done" in begun[-1].split() if begun[0].startswith("for ") else not row.endswith("\\")
        if whole:
            yield number + 1 - len(begun), " ".join(begun)
            begun = []


def fenced(page: Path) -> Iterator[Command]:
    """The commands of a page's fenced blocks, in order."""
    for first, language, block in blocks(page):
        rows = list(typed(first, block)) if language in ("", "bash", "sh") else []
        prompted = [(number, row.removeprefix("$ ")) for number, row in rows if row.startswith("$ ")]
        for number, row in prompted or rows:
            if re.sub(r"^(\w+=\S* )+", "", row).split(" ")[0] in PROGRAMS:
                yield Command(page, number, row)


def mentioned(page: Path) -> Iterator[Command]:
    """The commands that a page names in its text, whole or in part."""
    for number, row in enumerate(page.read_text().splitlines(), 1):
        yield from (Command(page, number, text) for text in NAMED.findall(row))


def run(command: Command, folder: Path, limit: float) -> int:
    """The exit code of a command in a folder; what it prints is passed on. STOPPED where it was interrupted."""
    print(f"\n$ {command}", flush=True)
    began = time.monotonic()
    running = subprocess.Popen(["bash", "-c", command.text], cwd=folder, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # in a background, too
    try:
        code = running.wait(limit)
    except subprocess.TimeoutExpired:
        code = STOPPED
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: all that it started, too
        with suppress(subprocess.TimeoutExpired):
            running.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    print(f"[exit code {code}, {time.monotonic() - began:.0f} s]", flush=True)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES)
    parser.add_argument("--run", type=Path, metavar="FOLDER")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for each command")
    parser.add_argument("--skip", default="$^", metavar="REGEX", help="commands that are left out")
    options = parser.parse_args()
    commands = [each for page in options.pages for each in fenced(page.resolve())
                if not re.search(options.skip, each.text)]
    if options.run is None:
        print(*commands, sep="\n")
        return 0
    codes = [(each, run(each, options.run, options.limit)) for each in commands]
    print(f"\n{sum(code == 0 for _, code in codes)} of {len(codes)} ended with 0")
    for each, code in codes:
        if code:
            print(f"{'stopped' if code == STOPPED else f'ended with {code}'}: {each}")
    return int(any(code not in (0, STOPPED) for _, code in codes))


if __name__ == "__main__":
    sys.exit(main())
