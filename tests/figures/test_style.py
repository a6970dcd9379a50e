"""The look: contrast, order of colours, deterministic files, SVG that fits into any page."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from scaleinv.errors import UserError
from scaleinv.papers.figure import write_figure
from scaleinv.plots import style


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#14171c"])
def test_every_colour_stands_out_on_both_pages(page: str) -> None:
    colours = [*style.regime_colours.values(), *style.elr_colours(np.geomspace(1e-5, 10, 41))]
    assert min(contrast(colour, page) for colour in colours) >= 3


def test_elr_colours_follow_the_logarithm_and_get_lighter() -> None:
    colours = style.elr_colours(np.geomspace(1e-4, 1, 20))
    assert len(set(colours)) == 20
    lights = [luminance(colour) for colour in colours]
    assert all(a < b for a, b in pairwise(lights))
    assert style.elr_colours([1e-4, 1e-2, 1]) == [colours[0], style.elr_colour(0.5), colours[-1]]


def test_elr_colours_of_odd_input() -> None:
    assert style.elr_colours([]) == []
    assert style.elr_colours([0.1]) == [style.elr_colour(0.5)]
    assert style.elr_colours([0.1, float("nan"), 1.0])[1] == style.elr_colour(0.5)


def test_regimes_differ_in_more_than_colour() -> None:
    assert set(style.regime_colours) == set(style.regime_markers) == set(style.regime_names) == {1, 2, 3, None}
    assert len(set(style.regime_markers.values())) == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-3, "10⁻³"),
        (2e-3, "2·10⁻³"),
        (0.01, "10⁻²"),
        (0.02, "0.02"),
        (0.1, "0.1"),
        (1, "1"),
        (100, "100"),
        (1e3, "10³"),
    ],
)
def test_powers_of_ten(value: float, text: str) -> None:
    assert style.power_of_ten(value) == text


def drawn() -> tuple[object, object]:
    fig, axes = style.new_figure(4, 3)
    (line,) = axes.plot([1, 10, 100], [1e-3, 1e-2, 2e-3])
    line.set_gid("a0.r0.0")
    axes.set_xlabel("epoch")
    axes.text(2, 2e-3, "$x_{ <b> & 漢", parse_math=False)
    style.log_axis(axes, "xy")
    style.elr_colour_bar(fig, axes, [1e-3, 1e-1])
    return fig, axes


def test_files_are_the_same_every_time() -> None:
    fig, _ = drawn()
    first, again = ({name: style.rendered(fig, name) for name in style.FORMATS} for _ in range(2))
    anew_fig, _ = drawn()
    assert first == again == {name: style.rendered(anew_fig, name) for name in style.FORMATS}
    assert first.keys() == {"svg", "pdf", "png"}
    assert first["svg"].startswith(b"<?xml")
    assert first["pdf"].startswith(b"%PDF")
    assert first["png"].startswith(b"\x89PNG")
    assert b"CreationDate" not in first["pdf"]


def test_a_figure_is_laid_out_without_being_drawn_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of many figures is made in seconds: matplotlib draws each twice, once to look at sizes."""
    fig, axes = style.new_figure(4, 3)
    axes.plot([1, 2], [3, 4])
    draw, times = type(fig).draw, []

    def counted(*given: object) -> None:
        times.append(1)
        draw(*given)

    monkeypatch.setattr(type(fig), "draw", counted)
    style.to_inline_svg(fig)
    assert len(times) <= 2
    first = axes.get_position().bounds
    fig.set_layout_engine("constrained")
    fig.draw_without_rendering()
    assert np.allclose(axes.get_position().bounds, first, rtol=0, atol=1e-6)


def test_a_figure_is_written_whole_with_its_numbers(tmp_path: Path) -> None:
    fig, _ = drawn()
    written = write_figure(fig, {"x": [1.0, float("nan")]}, tmp_path / "a", "f", style.FORMATS)
    names = ["f.json", "f.pdf", "f.png", "f.svg"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    assert sorted(path.name for path in written.paths) == names
    assert written.paths[-1].read_text() == '{\n "x": [\n  1.0,\n  null\n ]\n}\n'


def test_bad_format_and_bad_folder_are_told(tmp_path: Path) -> None:
    fig, _ = drawn()
    with pytest.raises(UserError, match="'gif'"):
        style.rendered(fig, "gif")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_figure(fig, {}, tmp_path / "file" / "sub", "f", ["svg"])


def test_inline_svg_takes_the_pages_colour_and_font() -> None:
    fig, _ = drawn()
    svg = style.to_inline_svg(fig, titles={"a0.r0.0": "ELR <1> & co"}, label="what it shows")
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == "what it shows"
    assert root.get("viewBox") == "0 0 288 216"
    assert root.get("width") is None
    assert "currentColor" in svg
    assert style.INK not in svg
    texts = ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"epoch", "$x_{ <b> & 漢", "10⁻³"} <= set(texts)  # text as text
    assert "<style" not in svg  # it would hold for the whole page
    assert "white" not in svg
    assert "#ffffff" not in svg
    group = next(e for e in root.iter() if e.get("data-gid") == "a0.r0.0")
    assert group[0].tag.endswith("title")
    assert group[0].text == "ELR <1> & co"


def test_ids_are_unique_over_figures_and_every_reference_is_met() -> None:
    parts = [style.to_inline_svg(drawn()[0], name=name) for name in ("one", "two")]
    ids = [i for part in parts for i in re.findall(r' id="([^"]+)"', part)]
    assert ids
    assert len(ids) == len(set(ids))
    for part in parts:
        used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', part))
        assert used
        assert used <= set(re.findall(r' id="([^"]+)"', part))


def test_inline_svg_is_the_same_every_time() -> None:
    assert style.to_inline_svg(drawn()[0]) == style.to_inline_svg(drawn()[0])


@pytest.mark.parametrize("span", [(1e-15, 10), (1e-4, 10), (0.5, 20), (2.0, 7.0), (8.1, 8.9), (1.21e-4, 1.5e-4)])
def test_log_axes_have_a_readable_number_of_labels(span: tuple[float, float]) -> None:
    _, axes = style.new_figure(4, 3)
    axes.plot([0, 1], span)
    style.log_axis(axes)
    low, high = axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert 2 <= len(ticks) <= 9
    assert len({style.power_of_ten(tick) for tick in ticks}) == len(ticks)


def test_no_rate_has_the_hue_of_a_regime() -> None:
    """Blue, orange and red are the regimes'; a colour of the scale of rates is not taken for one of them."""

    def lab(colour: str) -> np.ndarray:
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        cones = np.cbrt(
            np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]) @ linear
        )
        return np.asarray(
            np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]) @ cones
        )

    rates = np.array([lab(colour) for colour in style.elr_colours(np.geomspace(1e-4, 1, 21))])
    for regime in (1, 2, 3):
        distance = np.linalg.norm(rates[:, 1:] - lab(style.regime_colours[regime])[1:], axis=1)
        assert distance.min() > 0.06
    steps = np.linalg.norm(np.diff(rates[::4], axis=0), axis=1)  # of 0.07 each, bytes are good to 0.003
    assert steps.max() / steps.min() < 1.15  # equal steps of the rate look equally far apart
