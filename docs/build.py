"""Build the documentation: gather its pages in build/site-source, run the tutorials, and have Zensical make site/.

    python docs/build.py            what `make docs` does
    python docs/build.py --plain    without running the tutorials (their outputs are left out)

Nothing is fetched from a network. What is gathered: docs/, the README as the home page, the changelog, a page of
reference for each room of the package, the help of every command.
"""

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS, SOURCE, PACKAGE = ROOT / "docs", ROOT / "build" / "site-source", ROOT / "src" / "scaleinv"
BLOB = "https://github.com/scaleinv/scaleinv/blob/main/"
#: files outside docs/ that have a page of their own
PAGES = {"README.md": "index.md", "CHANGELOG.md": "about/changelog.md", "CONTRIBUTING.md": "about/contributing.md"}
#: page of the reference -> rooms and modules on it, with a line on what they are for
ROOMS = {
    "core": (("errors", "geometry", "plugins", "reading", "text"), "What everything else stands on."),
    "theory": (("theory",), "Formulas of the papers, the law of the ELR, simulators of the toy models; numpy alone."),
    "symmetry": (("symmetry",), "Which weights have no scale; conversion; the doctor."),
    "sphere": (("sphere",), "Train on the sphere with the ELR as the hyper-parameter."),
    "monitor": (("monitor",), "Measure any training loop."),
    "lab": (("lab",), "Train one run: configuration, data, networks, launchers."),
    "runfolder": (("runfolder",), "The folder of a run: layout, rows, writing, reading."),
    "analysis": (("analysis",), "What runs say: regimes, periods, trajectories; no torch."),
    "landscape": (("landscape",), "What needs the network again: curvature, paths, walks, averages."),
    "studies": (("studies",), "Many runs: grids, sweeps, the regime map."),
    "report": (("report", "plots"), "Pages of HTML and how figures look."),
    "papers": (("papers",), "Claims and figures of the papers, and how to add your own."),
}
#: public names that are defined in private modules
BESIDE = {"theory": ["scaleinv.theory._formula.OutsideConditions"]}
LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)")
BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def main(arguments: list[str]) -> int:
    """Gather, run, build. Exit status: that of Zensical."""
    gather(run="--plain" not in arguments)
    config = ROOT / ".mkdocs-all.yml"
    config.write_text(with_all_pages((ROOT / "mkdocs.yml").read_text(encoding="utf-8")), encoding="utf-8")
    zensical = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f", str(config)]
    code = subprocess.run(zensical, cwd=ROOT, check=False).returncode
    config.unlink()
    if code == 0:
        cut_off()
        for page, address in fetched():
            print(f"{page} would fetch {address} from a network", file=sys.stderr)
            code = 1
    if code == 0:
        print(f"open {ROOT / 'site' / 'index.html'}")
    return code


def gather(run: bool) -> None:
    """Write all pages to build/site-source."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(DOCS, SOURCE, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for page in sorted(DOCS.rglob("*.md")):
        place = page.relative_to(DOCS)
        text = page.read_text(encoding="utf-8")
        if run and place.parts[0] == "tutorials":
            text = executed(text, page.stem)
        (SOURCE / place).write_text(moved(text, page, place), encoding="utf-8")
    for page in sorted(DOCS.rglob("*.ipynb")):
        place = page.relative_to(DOCS).with_suffix(".md")
        text = notebook(page.read_text(encoding="utf-8")) + f"\n[This page as a notebook]({page.name})\n"
        (SOURCE / place).write_text(moved(text, page, place), encoding="utf-8")
    for name, place in PAGES.items():
        page = ROOT / name
        (SOURCE / place).parent.mkdir(exist_ok=True)
        (SOURCE / place).write_text(moved(page.read_text(encoding="utf-8"), page, Path(place)), encoding="utf-8")
    (SOURCE / "reference").mkdir(exist_ok=True)
    for name, text in reference().items():
        (SOURCE / "reference" / f"{name}.md").write_text(text, encoding="utf-8")


def with_all_pages(config: str) -> str:
    """Add the pages of docs/ that the navigation does not name yet, each at the end of its folder's section."""
    lines = config.splitlines()
    for page in sorted([*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]):
        place = page.relative_to(DOCS).with_suffix(".md")
        if place.as_posix() in config:
            continue
        heading = re.search(r"^#\s+(.+)$", (SOURCE / place).read_text(encoding="utf-8"), re.MULTILINE)
        title = (heading.group(1) if heading else page.stem).replace(":", " -").replace("`", "")
        last = max(at for at, line in enumerate(lines) if f": {place.parent.as_posix()}/" in line)
        lines.insert(last + 1, f"      - {title}: {place.as_posix()}")
    return "\n".join(lines) + "\n"


def notebook(text: str) -> str:
    """Write an executed notebook as a page: its text, its code, what it printed, its pictures."""
    pieces = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            pieces.append(source)
            continue
        pieces.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            said = "".join(output.get("text", data.get("text/plain", "")))
            if "image/png" in data:
                pieces.append(f"![output](data:image/png;base64,{''.join(data['image/png']).strip()})")
            elif "image/svg+xml" in data or "text/html" in data:
                pieces.append("".join(data.get("image/svg+xml") or data["text/html"]))
            elif said.strip():
                pieces.append(f"``` {{ .text .output }}\n{said.rstrip()}\n```")
    return "\n\n".join(pieces) + "\n"


def cut_off() -> None:
    """Have the pages load the search's helper from the site itself; the builder would take it from a network."""
    for page in (ROOT / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        here = Path(os.path.relpath(ROOT / "site" / "iframe-worker.js", page.parent)).as_posix()
        page.write_text(text.replace("https://unpkg.com/iframe-worker/shim", here), encoding="utf-8")


def fetched() -> list[tuple[Path, str]]:
    """List the pictures and scripts that a page of the site would take from a network."""
    loads = re.compile(r'<(?:img|script|source)\b[^>]*\bsrc="?(https?:[^"\s>]+)')
    pages = sorted((ROOT / "site").rglob("*.html"))
    return [(page, address) for page in pages for address in loads.findall(page.read_text(encoding="utf-8"))]


def moved(text: str, page: Path, place: Path) -> str:
    """Have the relative links of ``page`` hold at ``place`` of the site; files that are not on it lie on GitHub."""

    def follow(found: re.Match[str]) -> str:
        target = (page.parent / found.group(2)).resolve()
        inside = target.relative_to(ROOT).as_posix()
        if inside in PAGES:
            there = Path(PAGES[inside])
        elif inside.startswith("docs/") and (target.is_file() or (SOURCE / inside.removeprefix("docs/")).is_file()):
            there = target.relative_to(DOCS)  # what a tutorial has drawn lies among the gathered pages alone
            if target.suffix == ".ipynb" and target != page:  # a notebook has a page of its own here
                there = there.with_suffix(".md")
        else:
            return found.group(1) + BLOB + inside
        return found.group(1) + Path(os.path.relpath(there, place.parent)).as_posix()

    return LINK.sub(follow, text)


def executed(text: str, name: str) -> str:
    """Run the blocks of a tutorial in one namespace; what they print, and the pictures they save, stand below them.

    Writes the same as a notebook beside the page.
    """
    folder = ROOT / "build" / "tutorials" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    namespace: dict[str, object] = {"__name__": "__tutorial__"}
    cells: list[dict[str, object]] = []
    pieces: list[str] = []
    end = 0
    for match in BLOCK.finditer(text):
        before, code = text[end : match.start()], match.group(1)
        there = set(folder.glob("*.png"))
        said = io.StringIO()
        with contextlib.chdir(folder), contextlib.redirect_stdout(said):
            exec(compile(code, f"docs/tutorials/{name}.md", "exec"), namespace)
        output = said.getvalue().rstrip()
        pieces += [before, match.group(0)]
        if output:
            pieces.append(f"\n``` {{ .text .output }}\n{output}\n```\n")
        pictures = sorted(set(folder.glob("*.png")) - there)
        for picture in pictures:
            shutil.copy(picture, SOURCE / "tutorials" / picture.name)
            pieces.append(f"\n![{picture.stem}]({picture.name})\n")
        cells += [_cell("markdown", before.strip()), _cell("code", code.rstrip(), output)]
        end = match.end()
    cells.append(_cell("markdown", text[end:].strip()))
    book = {"cells": cells, "metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 4}
    (SOURCE / "tutorials" / f"{name}.ipynb").write_text(json.dumps(book, indent=1), encoding="utf-8")
    rest = text[end:]
    return "".join([*pieces, rest, f"\n[This page as an executed notebook]({name}.ipynb)\n"])


def _cell(kind: str, source: str, output: str = "") -> dict[str, object]:
    cell: dict[str, object] = {"cell_type": kind, "metadata": {}, "source": source}
    if kind == "code":
        stream = {"output_type": "stream", "name": "stdout", "text": output}
        cell |= {"execution_count": None, "outputs": [stream] if output else []}
    return cell


def modules(room: str) -> list[str]:
    """List the public modules of a room by their dotted names, the room itself first.

    >>> modules("errors")
    ['scaleinv.errors']
    """
    base = PACKAGE / room
    files = sorted(base.rglob("*.py")) if base.is_dir() else [base.with_suffix(".py")]
    names = [".".join(("scaleinv", *file.relative_to(PACKAGE).with_suffix("").parts)) for file in files]
    names = [name.removesuffix(".__init__") for name in names]
    return sorted(name for name in names if not any(part.startswith("_") for part in name.split(".")))


def reference() -> dict[str, str]:
    """Write the pages of the reference: one for each room, one with the help of every command, and the way in."""
    scaleinv = importlib.import_module("scaleinv")
    top_level = {getattr(getattr(scaleinv, name), "__module__", "") for name in scaleinv.__all__}
    pages = {}
    rows = []
    for page, (rooms, words) in ROOMS.items():
        lines = [f"# {', '.join(f'scaleinv.{room}' for room in rooms)}", "", words, ""]
        for room in rooms:
            names = sorted(
                modules(room), key=lambda name: (name.count(".") > 1, name not in top_level)
            )  # best known first
            for name in (*names, *BESIDE.get(room, ())):
                package = PACKAGE.joinpath(*name.split(".")[1:]).is_dir()  # its names stand in the modules within
                lines.append(f"::: {name}\n" + ("    options: {members: []}\n" if package else ""))
        pages[page] = "\n".join(lines)
        rows.append(f"| [{', '.join(rooms)}]({page}.md) | {words} |")
    public = [name for name in scaleinv.__all__ if name != "__version__"]
    top = [f"| `scaleinv.{name}` | {_first_line(getattr(scaleinv, name))} |" for name in public]
    pages["index"] = "\n".join(
        ["# Reference", "", "At the top of the package:", "", "| name | |", "|---|---|", *top, ""]
        + ["Room by room ([architecture](../architecture.md)):", "", "| page | |", "|---|---|", *rows, ""]
        + ["The [commands](commands.md) with all their options.", ""]
    )
    pages["commands"] = _commands()
    return pages


def _first_line(thing: object) -> str:
    words = (thing.__doc__ or "").strip().split("\n\n")[0]
    docstrings = importlib.import_module("docstrings") if str(DOCS) in sys.path else None
    line = " ".join(words.split())
    return docstrings.markdown(line) if docstrings else line


def _commands() -> str:
    commands = importlib.import_module("scaleinv.cli").COMMANDS
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    lines = ["# Commands", ""]
    for name, command in commands.items():
        asked = [sys.executable, "-m", "scaleinv", name, "--help"]
        said = subprocess.run(asked, capture_output=True, text=True, check=True, env=environment).stdout
        said = "\n".join(line.rstrip() for line in said.splitlines()).strip()
        lines += [f"## scaleinv {name}", "", command.summary[0].upper() + command.summary[1:] + ".", ""]
        lines += ["``` { .text }", said, "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.path[:0] = [str(DOCS)]
    raise SystemExit(main(sys.argv[1:]))
