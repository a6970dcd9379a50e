"""A page with all figures of a folder: each with its title, where it comes from, the command and its numbers."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scaleinv.papers.figure import FigureEntry
from scaleinv.report.page import render
from scaleinv.runfolder.files import write_bytes

_TYPES = {"png": "image/png", "svg": "image/svg+xml"}
_WORDS = {"svg": "SVG", "pdf": "PDF", "png": "PNG", "json": "numbers (JSON)"}


def write_gallery(out: Path, entries: Sequence[FigureEntry]) -> Path:
    """Write ``out/index.html`` with the figures of ``entries`` that lie in ``out``, at every scale; return its path.

    The pictures are within the page; vector files and numbers are linked beside it.
    """
    figures = [
        _figure(out, entry, scale)
        for entry in entries
        for scale in entry.scales
        if (out / f"{entry.stem(scale)}.json").exists()
    ]
    path = out / "index.html"
    write_bytes(path, render("gallery.html.j2", title="Figures of the papers", figures=figures).encode("utf-8"))
    return path


def _figure(out: Path, entry: FigureEntry, scale: str) -> dict[str, Any]:
    stem = entry.stem(scale)
    files = {kind: path for kind in _WORDS if (path := out / f"{stem}.{kind}").exists()}
    shown = next((kind for kind in _TYPES if kind in files), None)
    data = "" if shown is None else base64.b64encode(files[shown].read_bytes()).decode("ascii")
    return {
        "entry": entry,
        "scale": scale,
        "stem": stem,
        "picture": "" if shown is None else f"data:{_TYPES[shown]};base64,{data}",
        "command": f"scaleinv reproduce {entry.id}" + (f" --scale {scale}" if len(entry.scales) > 1 else ""),
        "links": [(quote(path.name), _WORDS[kind]) for kind, path in files.items()],
    }
