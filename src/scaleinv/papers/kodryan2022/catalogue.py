"""Claims of Kodryan, Lobacheva et al. 2022: three regimes of training on the sphere."""

from __future__ import annotations

from scaleinv.papers.claim import Claim
from scaleinv.papers.figure import FigureEntry

CLAIMS = (
    Claim(
        id="frozen-head",
        was="23-frozen-head",
        paper="Kodryan et al. 2022",
        place="set-up",
        statement="A frozen head and norms without affine parameters cost almost no test error.",
        tolerance=(
            "The same conventional training of both networks at two learning rates, the better one of each "
            "compared; test error with recomputed BN statistics, paired by seed."
        ),
        scales={"digits": 40, "mnist": 300, "cifar-small": 900, "paper": 2000000.0},
        check="scaleinv.papers.kodryan2022.conventional:frozen_head",
    ),
    Claim(
        id="schedules",
        paper="Kodryan et al. 2022",
        place="schedules",
        statement="The best ELR schedule starts in regime 2 near the boundary and ends in regime 1.",
        tolerance=("Constant, cosine, step and two-stage from four starts; pairs over seeds with Holm's correction."),
        scales={"digits": 60, "mnist": 2000, "cifar-small": 7000, "paper": 30000000.0},
        check="scaleinv.papers.kodryan2022.conventional:schedules",
    ),
    Claim(
        id="spectrum-of-minima",
        was="5-spectrum-of-minima",
        paper="Kodryan et al. 2022",
        place="Fig. 7, left",
        statement=("Regime 1: the larger the ELR, the lower the effective gradient at equal loss (flatter minima)."),
        tolerance="eg/loss at equal loss, from 1e-2 down (on CIFAR-10 from 5e-2); the mean over seeds decides.",
        scales={"digits": 2, "cifar-small": 2000},
        check="scaleinv.papers.kodryan2022.convergence:spectrum",
    ),
    Claim(
        id="retraining",
        was="6-retraining",
        paper="Kodryan et al. 2022",
        place="Fig. 7, right",
        statement=(
            "Regime 1, re-training: a lower ELR keeps eg/loss, a higher ELR moves to the eg/loss of the new ELR."
        ),
        tolerance=(
            "Two starts each way and two seeds (on CIFAR-10 one of each); offsets of the log trajectories over "
            "common losses, 10 %. After a higher ELR the loss has to rise first: compared is what comes after its"
            " peak, below the loss of the start."
        ),
        scales={"digits": 36, "cifar-small": 2000},
        check="scaleinv.papers.kodryan2022.convergence:retraining",
    ),
    Claim(
        id="unconnected-minima",
        paper="Kodryan et al. 2022",
        place="section on regime 1",
        statement=(
            "Minima of different ELRs of regime 1 are not linearly connected, with one start and order of batches."
        ),
        tolerance=(
            "Highest train error on the straight path over that on the line between its ends, in points; all ELRs"
            " a factor >= 4 apart must lie beyond what counts as connected (half a point); a run's own last "
            "epochs must not. Digits have a fifth of their labels redrawn: plain ones are classified even on top "
            "of the barriers that the loss has."
        ),
        scales={"digits": 60, "cifar-small": 2400},
        check="scaleinv.papers.kodryan2022.convergence:unconnected",
    ),
    Claim(
        id="time-to-convergence",
        was="10-time-to-convergence",
        paper="Sadrtdinov et al. 2024",
        place="time to convergence near the boundary",
        statement="The time to convergence grows without bound towards the boundary of regimes 1 and 2.",
        tolerance=(
            "First passage below a loss of 1e-2; >= 2x over the last 40 % below the last ELR that gets there; "
            "five seeds."
        ),
        scales={"digits": 28},
        check="scaleinv.papers.kodryan2022.convergence:time_to_convergence",
    ),
    Claim(
        id="regime-3",
        was="9-regime-3",
        paper="Kodryan et al. 2022",
        place="regime 3",
        statement=(
            "Regime 3: loss of a random walk <= SGD <= gradient ascent; the walk's is that of random directions."
        ),
        tolerance=(
            "Walks on one sphere with one ELR (cosine below .02), paired by network; means over the last half of "
            "the steps."
        ),
        scales={"digits": 16, "mnist": 120, "cifar-small": 300, "paper": 300000.0},
        check="scaleinv.papers.kodryan2022.divergence:regime_3",
    ),
    Claim(
        id="equal-ess",
        was="14-equal-ess",
        paper="Kodryan et al. 2022",
        place="regime 2, Fig. 6 right",
        statement="Effective step sizes of the groups become equal in regime 2 and stay unequal in regime 1.",
        tolerance=(
            "Window means of log(1 + ESS_i^2) from the per-step record, two networks, ELRs of regime 1 and of "
            "regime 2; with the relations of eqs. 7-9 at every step."
        ),
        scales={"digits": 20, "mnist": 300, "cifar-small": 900, "paper": 2000000.0},
        check="scaleinv.papers.kodryan2022.equal_ess:equal_ess",
    ),
    Claim(
        id="level-of-regime-2",
        was="7-level-of-regime-2",
        paper="Kodryan et al. 2022",
        place="Fig. 8, left",
        statement="Regime 2: the stationary loss depends only on the current ELR, from above or below.",
        tolerance=(
            "Five seeds (on CIFAR-10 one): the level at the second ELR after the first and after the third one, "
            "over that from scratch; the last half of each run, and those that change their ELR go on for twice "
            "as long: they approach the level slowly."
        ),
        scales={"digits": 90, "cifar-small": 1700},
        check="scaleinv.papers.kodryan2022.equilibrium:level",
    ),
    Claim(
        id="from-regime-2-to-1",
        was="8-from-regime-2-to-1",
        paper="Kodryan et al. 2022",
        place="Fig. 8, right",
        statement=(
            "Regime 2 to 1: from a low start all ELRs of regime 1 reach one curvature, from a high one they differ."
        ),
        tolerance=(
            "Four seeds (on CIFAR-10 one), the first and the last ELR of regime 2, three new ELRs; eg/loss at "
            "equal loss."
        ),
        scales={"digits": 120, "cifar-small": 3300},
        check="scaleinv.papers.kodryan2022.equilibrium:leaving_regime_2",
    ),
    Claim(
        id="connected-after-regime-2",
        was="8-connected-after-regime-2",
        paper="Kodryan et al. 2022",
        place="Fig. 8, right; Sadrtdinov et al. 2024",
        statement=(
            "Regime 2 to 1: from a low start the ends of all ELRs are linearly connected, from a high start less so."
        ),
        tolerance=(
            "As from-regime-2-to-1; barrier of the train error on the straight paths between the ends. Digits "
            "have a fifth of their labels redrawn, and two seeds: plain ones are classified even on top of the "
            "barriers that the loss has."
        ),
        scales={"digits": 90, "cifar-small": 3600},
        check="scaleinv.papers.kodryan2022.equilibrium:connected_after_regime_2",
    ),
    Claim(
        id="convexity-of-regime-2",
        was="22-convexity-of-regime-2",
        paper="Kodryan et al. 2022",
        place="section on regime 2",
        statement="The region of regime 2 is locally convex for moderate ELR, not for high ELR.",
        tolerance=(
            "Iterates five epochs apart of the last half of the runs at the lowest and the highest ELR of regime "
            "2, four seeds: train loss at their mean and along the segments between them."
        ),
        scales={"digits": 6},
        check="scaleinv.papers.kodryan2022.equilibrium:convexity_of_the_region",
    ),
    Claim(
        id="identities",
        was="1-identities",
        paper="Lobacheva et al. 2021, Kodryan et al. 2022",
        place="eqs. 2, 4, 7, 8, 9",
        statement=(
            "On a network norm recursion, step cosine, sum rule, convex combination and feedback hold at every step."
        ),
        tolerance=(
            "A batch-normalised MLP of three groups on made-up data, 60 steps, eps 1e-30: float32 to 1e-6 and "
            "float64 to 1e-12."
        ),
        scales={"toy": 6},
        check="scaleinv.papers.kodryan2022.identities:identities",
    ),
    Claim(
        id="three-regimes",
        was="4-three-regimes",
        paper="Kodryan et al. 2022",
        place="Fig. 5",
        statement=("On the sphere the ELR decides: loss up >= 10x within a factor 3 of ELR at 1/2, chance beyond 2/3."),
        tolerance="ConvNet, all seeds of the scale; decided by shares of epochs over the last half of the run.",
        scales={"digits": 95, "mnist": 600, "cifar-small": 2200},
        check="scaleinv.papers.kodryan2022.regimes:on_the_sphere",
    ),
    Claim(
        id="three-regimes-mlp",
        was="4-three-regimes-mlp",
        paper="Kodryan et al. 2022",
        place="Fig. 5, other networks",
        statement=(
            "On the sphere the ELR decides: loss up >= 10x within a factor 3 of ELR at 1/2, chance beyond 2/3; an MLP."
        ),
        tolerance="Batch 32: at 16 its passage from 1 to 2 is gradual.",
        scales={"digits": 25},
        check="scaleinv.papers.kodryan2022.regimes:of_an_mlp",
    ),
    Claim(
        id="three-regimes-resnet",
        was="4-three-regimes-resnet",
        paper="Kodryan et al. 2022",
        place="Fig. 5, other networks",
        statement=(
            "On the sphere the ELR decides: loss up >= 10x within a factor 3 of ELR at 1/2, chance beyond 2/3; "
            "ResNet-18."
        ),
        tolerance="Five ELRs, one seed; the grid is too coarse for a boundary, not for the jump.",
        scales={"digits": 40},
        check="scaleinv.papers.kodryan2022.regimes:of_a_resnet",
    ),
    Claim(
        id="three-regimes-squared-loss",
        was="4-three-regimes-squared-loss",
        paper="Nakhodnov et al. 2022",
        place="Fig. 9, right",
        statement=(
            "On the sphere the ELR decides: loss up >= 10x within a factor 3 of ELR at 1/2, chance beyond 2/3; "
            "squared loss."
        ),
        tolerance=(
            "An MLP with layer norm, three seeds; with batch norm over 32 images the loss stays at the noise of "
            "the batch."
        ),
        scales={"digits": 36},
        check="scaleinv.papers.kodryan2022.regimes:of_the_squared_loss",
    ),
    Claim(
        id="regimes-in-whole-space",
        paper="Kodryan et al. 2022",
        place="section on training in the whole space and on conventional training",
        statement=(
            "In the whole space with weight decay, and in conventional training, a rising LR shows regimes 1, 2, 3."
        ),
        tolerance=(
            "Scale-invariant with weight decay 1e-3; standard with momentum .9 and weight decay 5e-4 (digits: no "
            "crops)."
        ),
        scales={"digits": 25},
        check="scaleinv.papers.kodryan2022.regimes:whole_space",
    ),
    Claim(
        id="toy-one-group",
        was="2-one-group",
        paper="Kodryan et al. 2022",
        place="Proposition 3, with sharper forms",
        statement=("One group: edge 1/alpha, level (alpha - 1/elr)/2, contraction |1 - 2a|, ESS sqrt(a^2-1), cos 1/a."),
        tolerance=(
            "Away from the edge to 1e-6; the contraction from the ratio x/y of a run of its own, in plain numbers."
        ),
        scales={"toy": 1},
        check="scaleinv.papers.kodryan2022.toy:one_group",
    ),
    Claim(
        id="toy-convergence",
        was="prop-3",
        paper="Kodryan et al. 2022",
        place="Proposition 3",
        statement="f_alpha converges linearly below elr = 1/alpha and settles at (alpha - 1/elr)/2 above.",
        tolerance=("40 ELRs from 0.1 to 20 times the edge, 16 starts, three alphas; 1 % around the edge is left out."),
        scales={"toy": 2},
        check="scaleinv.papers.kodryan2022.toy:proposition_3",
    ),
    Claim(
        id="toy-many-groups",
        was="3-many-groups",
        paper="Kodryan et al. 2022",
        place="eqs. 9-12",
        statement=(
            "Regime 1 iff elr < 1/A; above, F = (A - 1/elr)/2 and elr_i* = elr A/alpha_i; equality ends near k = 2."
        ),
        tolerance=(
            "n = 5 (alpha 1..5) and n = 10 (alpha uniform 0.5-1.5), 20 000 steps, 16 seeds; the second half is "
            "measured. Window means of log(1 + ess_i^2) are allowed to differ by exactly what (eq. 9) says, "
            "|change of log elr_i|/T. The equality is called lost at the first k where the median ESS is off by "
            "more than the 2 % allowed below it; the wobble of F over time exceeds 10 % earlier, which is noted."
        ),
        scales={"toy": 8},
        check="scaleinv.papers.kodryan2022.toy:many_groups",
    ),
    Claim(
        id="neutral-centre",
        paper="Kodryan et al. 2022",
        place="eq. 12; the analysis of its stability is ours",
        statement=("Equal ESS is a neutral centre: determinant 1, a turn by acos(2/k^2 - 1) per step; no attractor."),
        tolerance=(
            "Finite differences of the literal step of one light group among many against the closed form; and "
            "the rotation itself."
        ),
        scales={"toy": 1},
        check="scaleinv.papers.kodryan2022.toy:neutral_centre",
    ),
    Claim(
        id="edge-of-stability-toy",
        was="edge-of-stability",
        paper="Lyu, Li, Arora 2022",
        place="stability of a minimum on the sphere",
        statement=("Descent on the toy stays at a minimum iff elr * lambda_1 of the spherical Hessian is below 2."),
        tolerance=(
            "The Hessian by finite differences of F at a minimum, then runs 2 % below and above the edge started "
            "beside it."
        ),
        scales={"toy": 1},
        check="scaleinv.papers.kodryan2022.toy:edge",
    ),
)

FIGURES = (
    FigureEntry(
        id="fig5",
        paper="Kodryan et al. 2022",
        place="Fig. 5",
        title="Three regimes of training on the sphere: loss, test error, effective gradient, and their diagram",
        scales={"digits": 60, "mnist": 400, "cifar-tiny": 300, "cifar-small": 2200, "paper": 2e06},
        numbers="scaleinv.papers.kodryan2022.fig5:numbers",
        draw="scaleinv.papers.kodryan2022.fig5:draw",
    ),
    FigureEntry(
        id="fig6-left",
        paper="Kodryan et al. 2022",
        place="Fig. 6, left",
        title="The toy function at three ELRs, one per regime",
        scales={"toy": 3},
        numbers="scaleinv.papers.kodryan2022.fig6_left:numbers",
        draw="scaleinv.papers.kodryan2022.fig6_left:draw",
    ),
    FigureEntry(
        id="fig6-right",
        paper="Kodryan et al. 2022",
        place="Fig. 6, right",
        title="Effective step sizes of the groups: equal in regime 2, not in regime 1",
        scales={"digits": 14, "mnist": 120, "cifar-small": 600, "paper": 400000},
        numbers="scaleinv.papers.kodryan2022.fig6_right:numbers",
        draw="scaleinv.papers.kodryan2022.fig6_right:draw",
    ),
    FigureEntry(
        id="fig7-left",
        paper="Kodryan et al. 2022",
        place="Fig. 7, left",
        title="Regime 1 at several ELRs: the larger the ELR, the flatter the minimum and the lower the test error",
        scales={"digits": 40, "mnist": 300, "cifar-small": 2000, "paper": 1e06},
        numbers="scaleinv.papers.kodryan2022.fig7_left:numbers",
        draw="scaleinv.papers.kodryan2022.fig7_left:draw",
    ),
    FigureEntry(
        id="fig7-right",
        paper="Kodryan et al. 2022",
        place="Fig. 7, right",
        title="Regime 1, re-training: a lower ELR stays on its trajectory, a higher one moves to its own",
        scales={"digits": 40, "mnist": 300, "cifar-small": 2000, "paper": 1e06},
        numbers="scaleinv.papers.kodryan2022.fig7_right:numbers",
        draw="scaleinv.papers.kodryan2022.fig7_right:draw",
    ),
    FigureEntry(
        id="fig8-left",
        paper="Kodryan et al. 2022",
        place="Fig. 8, left",
        title="Regime 2: whatever the ELR was, the stationary loss is that of the present one",
        scales={"digits": 60, "mnist": 400, "cifar-small": 1700, "paper": 2e06},
        numbers="scaleinv.papers.kodryan2022.fig8_left:numbers",
        draw="scaleinv.papers.kodryan2022.fig8_left:draw",
    ),
    FigureEntry(
        id="fig8-right",
        paper="Kodryan et al. 2022",
        place="Fig. 8, right",
        title="From regime 2 to regime 1: from a low ELR to one kind of minimum, from a high one to many",
        scales={"digits": 80, "mnist": 500, "cifar-small": 4500, "paper": 2e06},
        numbers="scaleinv.papers.kodryan2022.fig8_right:numbers",
        draw="scaleinv.papers.kodryan2022.fig8_right:draw",
    ),
    FigureEntry(
        id="bifurcation",
        paper="Kodryan et al. 2022",
        place="eqs. 10-12, Proposition 3 (our picture)",
        title="F against ELR * sum(alpha): theory over simulation",
        scales={"toy": 12},
        numbers="scaleinv.papers.kodryan2022.fig_bifurcation:numbers",
        draw="scaleinv.papers.kodryan2022.fig_bifurcation:draw",
    ),
    FigureEntry(
        id="connectivity",
        paper="Kodryan et al. 2022",
        place="section on regime 1",
        title="Minima of different ELRs lie in different, linearly unconnected regions",
        scales={"digits": 50, "mnist": 300, "cifar-small": 2800, "paper": 1e06},
        numbers="scaleinv.papers.kodryan2022.fig_connectivity:numbers",
        draw="scaleinv.papers.kodryan2022.fig_connectivity:draw",
    ),
    FigureEntry(
        id="regime3",
        paper="Kodryan et al. 2022",
        place="regime 3",
        title="Regime 3: SGD between a random walk and gradient ascent",
        scales={"digits": 18, "mnist": 60, "cifar-small": 120, "paper": 60000.0},
        numbers="scaleinv.papers.kodryan2022.fig_divergence:numbers",
        draw="scaleinv.papers.kodryan2022.fig_divergence:draw",
    ),
    FigureEntry(
        id="feedback",
        paper="Kodryan et al. 2022",
        place="eqs. 9 and 12, on the toy function",
        title="ELRs of the groups: drawn to equal step sizes in regime 2, wandering beyond",
        scales={"toy": 2},
        numbers="scaleinv.papers.kodryan2022.fig_feedback:numbers",
        draw="scaleinv.papers.kodryan2022.fig_feedback:draw",
    ),
    FigureEntry(
        id="schedules",
        paper="Kodryan et al. 2022",
        place="schedules",
        title="Which ELR schedule is best: start in regime 2 near the boundary, end in regime 1",
        scales={"digits": 70, "mnist": 2000, "cifar-small": 7000, "paper": 3e07},
        numbers="scaleinv.papers.kodryan2022.fig_schedules:numbers",
        draw="scaleinv.papers.kodryan2022.fig_schedules:draw",
    ),
    FigureEntry(
        id="si-vs-standard",
        paper="Kodryan et al. 2022",
        place="set-up",
        title="A frozen head and affine-free norms: the price in test error",
        scales={"digits": 45, "mnist": 250, "cifar-small": 700, "paper": 2e06},
        numbers="scaleinv.papers.kodryan2022.fig_si_vs_standard:numbers",
        draw="scaleinv.papers.kodryan2022.fig_si_vs_standard:draw",
    ),
    FigureEntry(
        id="transition",
        paper="Kodryan et al. 2022",
        place="section on the transition 1/2; Sadrtdinov et al. 2024",
        title="Towards the boundary of regimes 1 and 2 convergence takes ever longer; test error with label noise",
        scales={"digits": 90, "cifar-small": 4500, "paper": 3e06},
        numbers="scaleinv.papers.kodryan2022.fig_transition:numbers",
        draw="scaleinv.papers.kodryan2022.fig_transition:draw",
    ),
)
