"""One self-contained HTML page: sections of facts, checks, plots and pictures. Nothing is loaded from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
import io

import cv2
import numpy as np

THUMBNAIL = 240  # pixels, width of a picture of a contact sheet
QUALITY = 80  # of its JPEG
STYLE = """
:root { color-scheme: dark; --back: #0e1114; --panel: #161a1f; --line: #262c33; --text: #e8eaed; --dim: #8b959e; }
body { margin: 0 auto; max-width: 1180px; padding: 28px 22px 60px; background: var(--back); color: var(--text);
       font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 24px; margin: 0 0 2px; } h2 { font-size: 19px; margin: 40px 0 12px; }
h3 { font-size: 15px; margin: 22px 0 8px; }
p { color: var(--dim); margin: 6px 0; } a { color: #6ea8fe; } .scroll { overflow-x: auto; margin: 10px 0; }
table { border-collapse: collapse; background: var(--panel); border: 1px solid var(--line); font-size: 14px; }
td, th { padding: 5px 12px; border-top: 1px solid var(--line); text-align: left; font-variant-numeric: tabular-nums; }
th { font-weight: 400; }
th { color: var(--dim); } .good { color: #5fca8b; } .bad { color: #f0b35a; }
figure { margin: 0; } figcaption { color: var(--dim); font-size: 12px; }
svg { max-width: 100%; height: auto; display: block; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 10px; }
.pictures img { width: 100%; display: block; border-radius: 6px; }
"""


@dataclass(frozen=True)
class Check:
    """Something that must hold: what was looked at, whether it holds, and what was found."""

    what: str
    holds: bool
    found: str


@dataclass
class Section:
    """A part of the page: a title, and what is added to it, in that order."""

    title: str
    checks: list[Check] = field(default_factory=list)
    _parts: list[str] = field(default_factory=list)

    def text(self, words: str) -> None:
        self._parts.append(f"<p>{escape(words)}</p>")

    def heading(self, words: str) -> None:
        self._parts.append(f"<h3>{escape(words)}</h3>")

    def facts(self, facts: Mapping[str, object]) -> None:
        self.table(("", ""), [(name, value) for name, value in facts.items()])

    def table(self, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        cells = "".join(f"<th>{escape(each)}</th>" for each in head)
        body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        self._parts.append(f'<div class="scroll"><table>{f"<tr>{cells}</tr>" if any(head) else ""}{body}</table></div>')

    def check(self, what: str, holds: bool, found: str) -> None:
        self.checks.append(Check(what, holds, found))

    def show_checks(self) -> None:
        """The checks until here, as a table."""
        rows = "".join(f'<tr><td class="{"good" if each.holds else "bad"}">{"✓" if each.holds else "!"}</td>'
                       f"<td>{escape(each.what)}</td><td>{escape(each.found)}</td></tr>" for each in self.checks)
        self._parts.append(f'<div class="scroll"><table>{rows}</table></div>')

    def plot(self, figure) -> None:
        """A matplotlib figure, as SVG."""
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
        text = stream.getvalue()
        self._parts.append(f"<figure>{text[text.index('<svg'):]}</figure>")

    def pictures(self, pictures: Iterable[tuple[str, np.ndarray]]) -> None:
        """A contact sheet of pictures (H, W, 3) uint8 RGB with their captions."""
        cells = "".join(f'<figure><img alt="{escape(caption)}" src="data:image/jpeg;base64,{_jpeg(rgb)}">'
                        f"<figcaption>{escape(caption)}</figcaption></figure>" for caption, rgb in pictures)
        self._parts.append(f'<div class="pictures">{cells}</div>')

    def html(self) -> str:
        return f"<section><h2>{escape(self.title)}</h2>{''.join(self._parts)}</section>"


def page(title: str, sections: Sequence[Section]) -> str:
    """The whole document, with what did not hold first."""
    failed = [(section.title, check) for section in sections for check in section.checks if not check.holds]
    total = sum(len(section.checks) for section in sections)
    first = Section("What to look at")
    if failed:
        first.table(("where", "what", "found"), [(where, check.what, check.found) for where, check in failed])
    verdict = f"{total - len(failed)} of {total} checks hold" if total else ""
    body = (first.html() if failed else "") + "".join(section.html() for section in sections)
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{STYLE}</style>'
            f"<h1>{escape(title)}</h1><p>{verdict}</p>{body}</html>\n")


def _jpeg(rgb: np.ndarray) -> str:
    height = max(1, round(rgb.shape[0] * THUMBNAIL / rgb.shape[1]))
    small = cv2.resize(rgb, (THUMBNAIL, height), interpolation=cv2.INTER_AREA)
    return b64encode(cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]).decode()
