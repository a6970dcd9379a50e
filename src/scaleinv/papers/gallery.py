"""A page with all figures of a folder: each with its title, where it comes from, the command and its numbers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from scaleinv.papers.figure import FigureEntry
from scaleinv.plots.style import write_whole
from scaleinv.report.page import page
from scaleinv.text import count, esc

_TYPES = {"png": "image/png", "svg": "image/svg+xml"}


def write_gallery(out: Path, entries: Sequence[FigureEntry]) -> Path:
    """Write ``out/index.html`` with the figures of ``entries`` that lie in ``out``, at every scale; return its path.

    The pictures are within the page; vector files and numbers are linked beside it.
    """
    found = [
        (entry, scale, entry.stem(scale))
        for entry in entries
        for scale in entry.scales
        if (out / f"{entry.stem(scale)}.json").exists()
    ]
    sections = [_section(out, entry, scale, stem) for entry, scale, stem in found]
    links = " · ".join(f'<a href="#{esc(stem)}">{esc(stem)}</a>' for _, _, stem in found)
    body = [
        "<h1>Figures of the papers</h1>",
        f'<p class="about">{count(len(found), "figure")}: {links}</p>',
        *sections,
    ]
    path = out / "index.html"
    write_whole(path, page("Figures of the papers", body).encode("utf-8"))
    return path


def _section(out: Path, entry: FigureEntry, scale: str, stem: str) -> str:
    flag = f" --scale {scale}" if len(entry.scales) > 1 else ""
    files = [out / f"{stem}.{kind}" for kind in ("svg", "pdf", "png", "json")]
    there = [path for path in files if path.exists()]
    names = {".json": "numbers (JSON)"}
    links = " · ".join(
        f'<a href="{esc(quote(path.name))}">{names.get(path.suffix, path.suffix[1:].upper())}</a>' for path in there
    )
    return (
        f'<section id="{esc(stem)}"><h2>{esc(entry.title)}</h2>'
        f'<p class="about">{esc(entry.paper)}, {esc(entry.place)} · scale {esc(scale)}</p>'
        f"{_picture(there, entry.title)}"
        f"<pre>scaleinv reproduce {esc(entry.id)}{esc(flag)}</pre><p>{links}</p></section>"
    )


def _picture(files: Sequence[Path], title: str) -> str:
    """The picture itself, on white: its colours are made for paper."""
    for kind in ("png", "svg"):
        for path in files:
            if path.suffix == f".{kind}":
                data = base64.b64encode(path.read_bytes()).decode("ascii")
                return f'<p><img class="paper" alt="{esc(title)}" src="data:{_TYPES[kind]};base64,{data}"></p>'
    return "<p>No picture a browser can show was drawn (only PDF).</p>"
