"""Write the page, or the figures, of a run or a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scaleinv.analysis.periods.summary import periods_of
from scaleinv.errors import UserError
from scaleinv.plots import style
from scaleinv.plots.drawing import Drawing
from scaleinv.report.facts import by_series, gather
from scaleinv.report.landscape_section import landscape_drawings
from scaleinv.report.period_figures import period_drawings
from scaleinv.report.retraining import retraining_drawings
from scaleinv.report.run_figures import run_drawings
from scaleinv.report.run_page import rate_name, run_page
from scaleinv.report.sweep_figures import sweep_drawings
from scaleinv.report.sweep_page import sweep_page
from scaleinv.report.sweep_sections import more_drawings
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
    content = sweep_page(load_sweep(source)) if folder_kind(source) == "sweep" else run_page(load_run(source))
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
        whole = gather(load_sweep(source))
        parts = by_series(whole)
        suffixes = [f"-{number}" for number in range(1, len(parts) + 1)] if len(parts) > 1 else [""]
        drawings = [
            drawing
            for part, suffix in zip(parts, suffixes)
            for drawing in sweep_drawings(part.facts, bar=True, suffix=suffix)
        ]
        drawings += retraining_drawings(whole) + more_drawings(whole)
    else:
        run = load_run(source)
        found = periods_of(run)
        drawings = [*([] if found is None else period_drawings(found)), *run_drawings(run)]
        drawings += landscape_drawings(run.folder, rate_name(run))
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
