"""The rows of a text PLY file, piece by piece: some ten times as fast as one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
import warnings

import numpy as np

PIECE = 1 << 22  # bytes of text at a time
Track = Callable[[Sequence], Iterable]


def read_rows(path: Path, begin: int, skip: int, count: int, kinds: dict[str, str],
              track: Track = iter) -> dict[str, np.ndarray]:
    """Columns (count,) of the types in `kinds`, one number each in every line.

    begin: the byte at which the lines begin, of which `skip` are of something else; `track` wraps the loop over the
    file (a progress bar). Raises ValueError that names the file, the line of the body and what is wrong.
    """
    table, filled, passed, rest = np.empty((count, len(kinds))), 0, 0, b""
    with path.open("rb") as stream:
        stream.seek(begin)
        for _ in track(range(begin, path.stat().st_size, PIECE)):
            if filled == count:
                break
            piece = stream.read(PIECE)
            text = rest + piece if len(piece) == PIECE else rest + piece.rstrip() + b"\n"
            cut = text.rfind(b"\n") + 1
            text, rest = text[:cut], text[cut:]
            ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1
            left = min(skip - passed, len(ends))
            stop = min(left + count - filled, len(ends))
            if left < stop:
                lines = text[ends[left - 1] if left else 0:ends[stop - 1]]
                table[filled:filled + stop - left] = _numbers(lines, len(kinds), path, filled)
                filled += stop - left
            passed += left
    if filled < count:
        raise ValueError(f"{path} is cut short: its header announces {count} vertices, it holds {filled}")
    return {name: _typed(table[:, k], kind, f"{path}: property {name}") for k, (name, kind) in enumerate(kinds.items())}


def _numbers(text: bytes, columns: int, path: Path, before: int) -> np.ndarray:
    """(lines, columns) float64. A line with a word too many is an error, even if the next has one too few. before: how
    many vertices come before these."""
    letters = np.frombuffer(text, np.uint8)
    space = letters <= ord(" ")
    begins = ~space
    begins[1:] &= space[:-1]
    starts = np.concatenate([[0], np.flatnonzero(letters == ord("\n"))[:-1] + 1])
    words = np.add.reduceat(begins, starts, dtype=np.int32)
    if (words == columns).all():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # numpy's word for what is no number
                return np.fromstring(text, sep=" ").reshape(-1, columns)
        except (DeprecationWarning, ValueError):
            pass
    lines = text.split(b"\n")
    wrong = next(k for k, line in enumerate(lines) if len(line.split()) != columns or not all(map(_is_number,
                                                                                                line.split())))
    raise ValueError(f"{path}: expected {columns} numbers for vertex {before + wrong + 1}, got "
                     f"{lines[wrong][:80].decode('ascii', 'replace')!r}")


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return b"_" not in word


def _typed(column: np.ndarray, kind: str, where: str) -> np.ndarray:
    """The column in its type. Raises ValueError where a whole number is none, or too large for it."""
    if np.dtype(kind).kind in "iu":
        limits = np.iinfo(kind)
        wrong = ~((column >= limits.min) & (column <= limits.max) & (column == np.rint(column)))
        if wrong.any():
            raise ValueError(f"{where}: expected whole numbers from {limits.min} to {limits.max}, got "
                             f"{column[wrong][0]:g} ({wrong.sum()} of {len(column)} are wrong)")
    with np.errstate(over="ignore"):
        return column.astype(kind)
