# ruff: noqa: E501  (a table)
"""Write docs/results/doctor.md from what ``python -m benchmarks.doctor --json FILE`` stored.

python -m benchmarks.doctor_page FILE ... [--out docs/results/doctor.md]
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.architectures import ARCHITECTURES

HEAD = """# What has no scale, architecture by architecture

What `scaleinv doctor` says about small random models of these architectures (train mode, all parameters as the library makes them), and how that
was checked. Made by

    python -m benchmarks.doctor --json sweep.json && python -m benchmarks.doctor_page sweep.json

- **alone**: tensors `w` with `f(c w) = f(w)` for every `c > 0`. Their weight decay sets their effective learning rate and nothing else.
- **joint**: sets of tensors that are so only together (one residual stream, a matrix with its bias in front of a layer norm).
- **rescaling**: sets of which some go up when others go down, by whole tensors or by slices of fused ones. They have a scale, as a product.
- **dead**: the output does not depend on the tensor.

"""

#: what to read in the lists
NOTES = {
    "ResNet": "Every convolution has a batch norm behind it, so every filter is without scale by itself. The last norms of the branches of "
    "a stage write into one stream: their gains and biases have no scale together.",
    "EfficientNet": "As ResNet, but squeeze and excitation sees the scale of the norms in front of it.",
    "NFNet": "No norm of activations: the filters are standardised before they are used, so each has no scale; the gain beside it has.",
    "ConvNeXt": "The depthwise convolution stands with its bias in front of a layer norm: free together. Layer scale trades with the "
    "second matrix of its MLP.",
    "ViT": "Pre-norm: everything that writes into the residual stream is free as one group, and no matrix alone. In the fused qkv, q trades "
    "with k and v with the projection; the bias of k is dead.",
    "Swin": "As ViT, a group for each stage.",
    "GPT-2": "The head is tied to the table, so the stream is not free: it trades with the last norm.",
    "Llama": "Pre-norm with a head of its own: one group that writes into the stream; q and k, v and o, up and down trade.",
    "Qwen3": "As Llama, and qk-norm makes q and k scale-invariant alone.",
    "Gemma": "Gains are stored as their difference from 1, so no factor on them is a rescaling; the head is tied.",
    "Gemma 2": "Norms before and behind attention and MLP: what stands in front of the second ones is scale-invariant alone.",
    "Gemma 3": "As Gemma 2, with qk-norm.",
    "OLMo 2": "Norms behind attention and MLP and on q and k: all matrices of the attention and two of each MLP are scale-invariant alone.",
    "Mixtral": "As Llama; the experts are tensors of three dimensions. Router and experts go down together when the norm in front of them goes up.",
    "Mamba": "The head is tied. Of the fused input projection, the part in front of the convolution trades with it.",
    "Whisper": "Pre-norm, but the encoder's stream begins behind a GELU, which holds its scale; the decoder's head is tied.",
    "nGPT": "All matrices that are normalised at once, or whose product is, have no scale; the learned step sizes and scales have.",
    "EDM2": "Every convolution is normalised before it is used, filter by filter, and the forward rewrites it in training.",
}

CHECK = """
## How it was checked

For each architecture, at another place of the weights, in float64, with none of the doctor's code and no autograd: all claims by scaling, at once and
each alone where that fails, without the eps of what calls itself a norm, and where another eps is in the way by its law, `c^-1` or `c^-2`; dead tensors
by moving their entries;
and completeness by central differences of the outputs in the logarithm of each tensor's scale, at as many places as it takes: the null space of these
differences must have as many dimensions as the doctor claims; fewer, where all claims hold by scaling, say nothing against them (a kink within the step hides a direction). `kept` and `dropped` are the singular values on both sides of the cut, relative
to the largest. Rescalings between slices of fused tensors are scaled too; the count of dimensions is that of whole tensors.

"""


def pattern(name: str) -> str:
    """Numbers of layers as ``*``."""
    return re.sub(r"\d+", "*", name)


def counted(texts: Iterable[str]) -> list[str]:
    """Each text once, with how often it is there."""
    return [text if n == 1 else f"{text} ({n} times)" for text, n in Counter(texts).items()]


def _set(names: Iterable[str]) -> str:
    return " + ".join(f"`{p}`" if n == 1 else f"{n} x `{p}`" for p, n in Counter(map(pattern, names)).items())


def _pair(pair: Mapping[str, int]) -> str:
    sides = ([n for n, e in pair.items() if e > 0], [n for n, e in pair.items() if e < 0])
    powers = sorted({abs(e) for e in pair.values()})
    text = " up, ".join((_set(sides[0]), _set(sides[1]))) + " down"
    return text + (f" (powers {', '.join(map(str, powers))})" if powers != [1] else "")


def _slices(trade: Mapping[str, Any]) -> str:
    parts = [
        f"`{pattern(p['name'])}`" + ("" if p["dim"] is None else f" in part, dim {p['dim']}") for p in trade["parts"]
    ]
    if trade["dead"]:
        return f"dead: {parts[0]}"
    ups = [text for text, p in zip(parts, trade["parts"]) if p["exponent"] > 0]
    downs = [text for text, p in zip(parts, trade["parts"]) if p["exponent"] < 0]
    return f"{' + '.join(ups)} up, {' + '.join(downs)} down"


def section(entry: Mapping[str, Any]) -> list[str]:
    """What one architecture has, by patterns of names."""
    a = entry["answer"]
    rows = set(a["row"])
    alone = [f"`{pattern(n)}`" + (", slice by slice" if n in rows else "") for n in a["single"]]
    lines = [
        f"### {entry['name']}",
        "",
        f"From {entry['library']}. {entry['headline'][:1].upper()}{entry['headline'][1:]}.",
        "",
    ]
    if entry["name"] in NOTES:
        lines += [NOTES[entry["name"]], ""]
    parts = [f"`{pattern(p['name'])}` in part (dim {p['dim']})" for p in a["partial"]]
    uneven = [_pair(w).removesuffix(" down").rpartition(" up, ")[0] for w in a.get("weighted", [])]
    kinds = (
        ("alone", alone), ("joint", [_set(names) for names in a["joint"]]), ("joint, unequal powers", uneven),
        ("in part", parts), ("rescaling", [_pair(p) for p in a["rescaling"]]),
        ("rescaling of slices", [_slices(t) for t in a.get("sliced", [])]),
        ("dead", [f"`{pattern(n)}`" for n in a["dead"]]),
        ("no gradient", [f"`{pattern(n)}`" for n in a.get("unreached", {})]),
        ("a scale of its own", [f"`{pattern(n)}`" for n in a["fixed"]]),
    )  # fmt: skip
    lines += [f"- **{kind}**: {'; '.join(counted(texts))}" for kind, texts in kinds if texts]
    return [*lines, ""]


def unresolved(e: Mapping[str, Any]) -> bool:
    """Tell whether the differences show no gap, or less than what holds by scaling; see ``doctor.Checked.resolved``."""
    return bool(e["dropped"] > 0.1 * e["kept"] or (e["measured"] < e["dimensions"] and not e["wrong"]))


def overview(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row an architecture."""
    lines = [
        "| architecture | tensors | alone | in joint groups | rescaling | dead | own scale | checked |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for e in entries:
        a = e["answer"]
        if not a:
            lines.append(f"| {e['name']} | | | | | | | {e['verdict']} |")
            continue
        joint = len({n for group in a["joint"] for n in group})
        right = not e["wrong"] and e["measured"] == e["dimensions"]
        verdict = "yes" if right and e["verdict"] == "clear" else e["verdict"] if e["verdict"] != "clear" else "**no**"
        if e["verdict"] == "clear" and not e["wrong"] and unresolved(e):
            verdict = "claims yes; the differences show no gap"
        pairs = len(a["rescaling"]) + sum(not t["dead"] for t in a.get("sliced", []))
        cells = (e["name"], e["tensors"], len(a["single"]), joint, pairs, len(a["dead"]), len(a["fixed"]), verdict)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return [*lines, ""]


def undecided(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of what is not clear why it is not."""
    reasons = [
        f"- **{e['name']}**: {re.sub(r' [(][0-9]+ of .*', '', (e['error'] or e['headline']).removeprefix('undecided: '))}"
        for e in entries
        if e["verdict"] != "clear"
    ]
    return ["Not clear, and why:", "", *reasons, ""] if reasons else []


def numbers(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The numbers of the check."""
    lines = [
        "| architecture | verdict | claims | wrong | dimensions | by differences | kept | dropped |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for e in entries:
        cells = (
            e["name"],
            e["verdict"],
            e["claims"],
            len(e["wrong"]),
            e["dimensions"],
            e["measured"],
            f"{e['kept']:.0e}",
            f"{e['dropped']:.0e}",
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def page(entries: Sequence[Mapping[str, Any]]) -> str:
    """Write the whole page."""
    shown = {a.name for a in ARCHITECTURES if a.page}
    order = {a.name: k for k, a in enumerate(ARCHITECTURES)}
    entries = sorted(entries, key=lambda e: order.get(e["name"], 0))
    clear = sum(e["verdict"] == "clear" for e in entries)
    wrong = sum(
        e["verdict"] == "clear" and (bool(e["wrong"]) or (e["measured"] != e["dimensions"] and not unresolved(e)))
        for e in entries
    )
    said = f"{len(entries)} architectures: {clear} clear, {wrong} of them wrong.\n"
    lines = [
        HEAD + said,
        *overview(entries),
        *undecided(entries),
        "## Which tensors",
        "",
        "Numbers in names are written `*`.",
        "",
    ]
    for e in entries:
        if e["name"] in shown and e["answer"]:
            lines += section(e)
    return "\n".join(lines) + CHECK + "\n".join(numbers(entries)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("docs/results/doctor.md"))
    options = parser.parse_args()
    entries = [entry for file in options.files for entry in json.loads(file.read_text("utf-8"))]
    options.out.write_text(page(entries), "utf-8")


if __name__ == "__main__":
    main()
