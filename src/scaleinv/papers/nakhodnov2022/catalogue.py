"""Claims of Nakhodnov et al. 2022: the squared loss on the sphere."""

from __future__ import annotations

from scaleinv.papers.claim import Claim
from scaleinv.papers.figure import FigureEntry

CLAIMS = (
    Claim(
        id="squared-loss-regimes",
        was="20-squared-loss",
        paper="Nakhodnov et al. 2022",
        place="full set against 5000 objects",
        statement=(
            "Squared loss: on the full set no ELR converges within the budget, on a small subset all regimes appear."
        ),
        tolerance=(
            "One network, head norm 1.5, on the full set and on a small part of it, as many steps; then the "
            "smallest and the largest ELR with head norm 10. At the paper's scale the head norm is 10 throughout."
        ),
        scales={"digits": 62, "mnist": 300, "cifar-small": 1000, "paper": 8000000.0},
        check="scaleinv.papers.nakhodnov2022.squared_loss:squared_loss",
    ),
    Claim(
        id="squared-cosines",
        was="21-squared-cosines",
        paper="Nakhodnov et al. 2022",
        place="cosines between iterates",
        statement=("Squared loss: cosines between epochs separate an analogue of regime 1 though no ELR converges."),
        tolerance=(
            "A gap in 1 - cos of successive epochs over the ELR beyond its slope among smaller ELRs, with its interval."
        ),
        scales={"digits": 36, "mnist": 300, "cifar-small": 700, "paper": 5000000.0},
        check="scaleinv.papers.nakhodnov2022.squared_loss:squared_cosines",
    ),
)

FIGURES = (
    FigureEntry(
        id="fig9-right",
        paper="Nakhodnov et al. 2022",
        place="5000 objects (fewer where the network is narrower)",
        title="Squared loss on a small set: all three regimes",
        scales={"digits": 30, "mnist": 60, "cifar-small": 420, "paper": 700000},
        numbers="scaleinv.papers.nakhodnov2022.fig9:numbers_right",
        draw="scaleinv.papers.nakhodnov2022.fig9:draw",
    ),
    FigureEntry(
        id="fig9-left",
        paper="Nakhodnov et al. 2022",
        place="full train set",
        title="Squared loss on the full set: regimes 2 and 3 alone",
        scales={"digits": 35, "mnist": 150, "cifar-small": 600, "paper": 7e06},
        numbers="scaleinv.papers.nakhodnov2022.fig9:numbers_left",
        draw="scaleinv.papers.nakhodnov2022.fig9:draw",
    ),
    FigureEntry(
        id="mse-cosine",
        paper="Nakhodnov et al. 2022",
        place="cosines between iterates",
        title="Squared loss: a gap in the cosines where no ELR converges",
        scales={"digits": 45, "mnist": 250, "cifar-small": 600, "paper": 5e06},
        numbers="scaleinv.papers.nakhodnov2022.fig_cosine:numbers",
        draw="scaleinv.papers.nakhodnov2022.fig_cosine:draw",
    ),
)
