"""The documentation site builds strictly, asks no network, and every link on it leads somewhere."""

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import scaleinv
from scaleinv.papers.shelf import figures

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"
needs_builder = pytest.mark.skipif(sys.version_info < (3, 11), reason="the builder of the site needs Python 3.11")


class _Page(HTMLParser):
    """Collects what a page links to, what it loads, and the anchors it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if "src" in found:
            self.loads.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "preload", "icon", "preconnect"):
            self.loads.append(found["href"])


@pytest.fixture(scope="module")
def pages() -> dict[Path, _Page]:
    """Build the site, without running the tutorials, and parse its pages."""
    said = subprocess.run(
        [sys.executable, str(ROOT / "docs/build.py"), "--plain"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return {path: _Page(path) for path in sorted(SITE.rglob("*.html"))}


@needs_builder
@pytest.mark.slow
def test_links_and_anchors(pages: dict[Path, _Page]) -> None:
    assert len(pages) > 30
    broken = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if target.is_dir():
                target = target / "index.html"
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].anchors):
                broken.append(f"{path.relative_to(SITE)} -> {link}")
    assert not broken, "\n".join(broken)


@needs_builder
@pytest.mark.slow
def test_nothing_comes_from_a_network(pages: dict[Path, _Page]) -> None:
    fetched = {load for page in pages.values() for load in page.loads if urlsplit(load).netloc}
    assert not fetched
    styles = "".join(path.read_text(encoding="utf-8") for path in SITE.rglob("*.css"))
    assert not re.search(r"(@import|url\()\s*['\"]?https?:", styles)


@needs_builder
@pytest.mark.slow
def test_every_public_name_is_in_the_reference(pages: dict[Path, _Page]) -> None:
    anchors = set().union(*(page.anchors for path, page in pages.items() if path.parent.name == "reference"))
    missing = []
    for name in scaleinv.__all__:
        thing = getattr(scaleinv, name)
        if hasattr(thing, "__module__") and f"{thing.__module__}.{name}" not in anchors:
            missing.append(name)
    assert not missing
    assert "scaleinv.theory.lobacheva2021.kappa" in anchors
    commands = (SITE / "reference/commands.html").read_text(encoding="utf-8")
    assert "--weight-decay" in commands
    assert "--input" in commands


def _module(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_room_has_its_page_of_reference() -> None:
    build = _module("docs/build.py")
    rooms = {path.stem for path in build.PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    rooms -= {"__init__", "__main__", "_version", "__pycache__", "cli"}
    listed = {room for names, _ in build.ROOMS.values() for room in names}
    assert {room for room in rooms if (build.PACKAGE / room).suffix in ("", ".py")} - listed == set()
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page for page in build.ROOMS if f"reference/{page}.md" not in nav] == []


def test_every_page_gets_into_the_navigation() -> None:
    """The order is that of mkdocs.yml; a page it does not name comes last in the section of its folder."""
    build = _module("docs/build.py")
    build.gather(run=False)
    nav = build.with_all_pages((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")]
    names = [path.relative_to(ROOT / "docs").with_suffix(".md").as_posix() for path in pages]
    assert [name for name in names if name not in nav] == []
    named = re.findall(r"[\w-]+/[\w-]+\.md|\b\w+\.md", nav.partition("\nnav:")[2])
    assert [name for name in named if not (build.SOURCE / name).exists()] == []


def test_a_picture_that_a_tutorial_draws_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies among the gathered pages alone, not in docs/; a file that is on neither side lies on GitHub."""
    build = _module("docs/build.py")
    monkeypatch.setattr(build, "SOURCE", tmp_path)
    (tmp_path / "tutorials").mkdir()
    (tmp_path / "tutorials" / "drawn.png").write_bytes(b"")
    page, place = build.DOCS / "tutorials/regime-map.md", Path("tutorials/regime-map.md")
    assert build.moved("![a](drawn.png)", page, place) == "![a](drawn.png)"
    assert build.moved("[a](../../examples/spikes.csv)", page, place) == f"[a]({build.BLOB}examples/spikes.csv)"
    assert build.moved("[a](first-regime-map.ipynb)", page, place) == "[a](first-regime-map.md)"


def test_what_would_be_fetched_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = _module("docs/build.py")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    (tmp_path / "site").mkdir()
    page = tmp_path / "site" / "a.html"
    page.write_text('<a href="https://x.org"><img alt="a" src="b.png"><img alt="c" src="https://x.org/c.png">')
    assert build.fetched() == [(page, "https://x.org/c.png")]


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("griffe")
    docstrings = _module("docs/docstrings.py")
    text = docstrings.markdown("See :class:`~scaleinv.Monitor`::\n\n    a = 1\n\n>>> a\n1\n\nEnd.")
    assert text == "See `Monitor`:\n\n    a = 1\n\n```pycon\n>>> a\n1\n```\n\nEnd."


def test_the_gallery_has_every_figure() -> None:
    """Each with its command, a verdict, and a picture or a word that it is not kept."""
    text = (ROOT / "docs/results/gallery.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^### ([\w-]+)\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE))
    assert set(parts) == set(figures())
    for name, part in parts.items():
        assert f"scaleinv reproduce {name}" in part
        assert "**Agrees with the paper**" in part or "**Agrees in part**" in part
        assert f"![{name}: " in part or "not kept" in part
