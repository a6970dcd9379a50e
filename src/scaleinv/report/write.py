"""Write the page, or the figures, of a run or a sweep."""

from collections.abc import Sequence
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.plots.style import FORMATS, rendered
from scaleinv.report.gather import run_facts, sweep_facts
from scaleinv.report.joined import join_folders
from scaleinv.report.page import section_drawings, section_page
from scaleinv.report.run_page import RUN_SECTIONS, run_title
from scaleinv.report.sweep_page import SWEEP_SECTIONS, sweep_title
from scaleinv.runfolder.files import refuse_links, write_bytes
from scaleinv.runfolder.read import folder_kind, load_run, load_sweep


def write_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a run's or a sweep's folder, and return its path.

    ``out`` is the page's file (.html), or a folder for it; by default it is ``report.html`` in the folder itself. The
    page is one file that loads nothing. The same folder, with those its runs started from, gives the same bytes.

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
    write_bytes(path, content.encode("utf-8"), parents=True, named=out is not None)
    return path


def write_joined(folders: Sequence[Path], out: str | Path | None = None) -> Path:
    """Write one page about the runs of several folders, by default ``report.html`` in the folder that holds them all.

    Errors: as :func:`write_report` and :func:`scaleinv.report.joined.join_folders`.
    """
    joined = join_folders(folders)
    path = _page_path(joined.folder, out)
    facts = sweep_facts(joined)
    write_bytes(
        path,
        section_page(sweep_title(facts), SWEEP_SECTIONS, facts).encode("utf-8"),
        parents=True,
        named=out is not None,
    )
    return path


def write_figures(folder: str | Path, formats: Sequence[str], out: str | Path | None = None) -> list[Path]:
    """Write every figure of the page as files, into ``figures/`` beside the page; return their paths.

    Errors: as :func:`write_report`, and UserError for an unknown format.
    """
    for name in formats or [""]:
        if name not in FORMATS:
            raise UserError(f"unknown figure format {name!r}; choose from: {', '.join(FORMATS)}")
    source = Path(folder)
    target = _page_path(source, out).parent / "figures"
    refuse_links(target)
    if folder_kind(source) == "sweep":
        drawings = section_drawings(SWEEP_SECTIONS, sweep_facts(load_sweep(source)))
    else:
        drawings = section_drawings(RUN_SECTIONS, run_facts(load_run(source)))
    paths = []
    for drawing in drawings:
        drawing.complete()
        for name in dict.fromkeys(formats):
            paths.append(target / f"{drawing.stem}.{name}")
            write_bytes(paths[-1], rendered(drawing.fig, name), parents=True)
    return paths


def _page_path(source: Path, out: str | Path | None) -> Path:
    path = source if out is None else Path(out)
    if path.is_dir() or out is None:
        return path / "report.html"
    if path.suffix.lower() in (".html", ".htm"):
        return path
    if path.suffix[1:2].isalpha():  # a folder may well be called elr-0.1
        raise UserError(
            f"--out {path}: a page is an HTML file, not {path.suffix}; name an .html file, or a folder that exists"
        )
    return path / "report.html"
