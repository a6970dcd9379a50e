"""Write the page, or the figures, of a run or a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing
from scaleinv.report.gather import run_facts, sweep_facts
from scaleinv.report.page import section_drawings, section_page
from scaleinv.report.run_page import RUN_SECTIONS, run_title
from scaleinv.report.sweep_page import SWEEP_SECTIONS, sweep_title
from scaleinv.runfolder.read import folder_kind, load_run, load_sweep


def write_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a run's or a sweep's folder, and return its path.

    ``out`` is the page's file (.html), or a folder for it; by default it is ``report.html`` in the folder itself. The
    page is one file that loads nothing. The same folder, and the same folders its runs went on from, give the same
    bytes.

    Errors: UserError where the folder is not a run or a sweep, is damaged, or the page cannot be written, and where
    ``out`` looks like another kind of file.

    >>> write_report("runs/demo")
    PosixPath('runs/demo/report.html')
    """
    source = Path(folder)
    path = _page_path(source, out)
    if folder_kind(source) == "sweep":
        sweep = sweep_facts(load_sweep(source))
        content = section_page(sweep_title(sweep), SWEEP_SECTIONS, sweep)
    else:
        run = run_facts(load_run(source))
        content = section_page(run_title(run), RUN_SECTIONS, run)
    style.write_whole(path, content.encode("utf-8"))
    return path


def write_figures(folder: str | Path, formats: Sequence[str], out: str | Path | None = None) -> list[Path]:
    """Write every figure of the page as files, into ``figures/`` beside the page; return their paths.

    Errors: as :func:`write_report`, and UserError for an unknown format.
    """
    unknown = [name for name in formats if name not in style.FORMATS]
    if unknown or not formats:
        raise UserError(
            f"unknown figure format {unknown[0] if unknown else ''!r}; choose from: {', '.join(style.FORMATS)}"
        )
    source = Path(folder)
    target = _page_path(source, out).parent / "figures"
    drawings: list[Drawing]
    if folder_kind(source) == "sweep":
        drawings = section_drawings(SWEEP_SECTIONS, sweep_facts(load_sweep(source)))
    else:
        drawings = section_drawings(RUN_SECTIONS, run_facts(load_run(source)))
    for drawing in drawings:
        drawing.complete()
    return [
        path
        for drawing in drawings
        for path in style.save(drawing.fig, target, drawing.stem, list(dict.fromkeys(formats)))
    ]


def _page_path(source: Path, out: str | Path | None) -> Path:
    if out is None:
        return source / "report.html"
    path = Path(out)
    if path.is_dir():
        return path / "report.html"
    if path.suffix.lower() in (".html", ".htm"):
        return path
    if path.suffix[1:2].isalpha():  # a folder may well be called elr-0.1
        raise UserError(
            f"--out {path}: the page is no {path.suffix} file; name an .html file, or a folder that is there"
        )
    return path / "report.html"
