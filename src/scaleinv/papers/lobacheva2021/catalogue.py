"""Claims of Lobacheva, Kodryan et al. 2021: periods of training with weight decay."""

from __future__ import annotations

from scaleinv.papers.claim import Claim
from scaleinv.papers.figure import FigureEntry

CLAIMS = (
    Claim(
        id="norm-interval",
        was="12-norm-interval-net",
        paper="Lobacheva et al. 2021",
        place="Theorem 1",
        statement="On nets kappa l <= rho^2 <= kappa L after burn-in, with periods as in equilibrium.",
        tolerance=(
            "l and L (percentiles 1 and 99) of the first half of the settled part bound rho^2 in its second half,"
            " no step outside; and whether the theorem's condition holds on each run."
        ),
        scales={"digits": 19, "mnist": 200, "cifar-small": 200},
        check="scaleinv.papers.lobacheva2021.bounds:norm_interval_net",
    ),
    Claim(
        id="norm-at-equilibrium",
        was="12-equilibrium-net",
        paper="Lobacheva et al. 2021",
        place="Theorem 1, edge case of constant eg",
        statement=(
            "In equilibrium rho^4 = lr mean(eg^2) / (2 wd) at every time, not before it and not within periods."
        ),
        tolerance=(
            "Two networks in equilibrium, two seeds: the mean to 5 %, every time within a factor 2. A run too "
            "young for it fails the first, a periodic one the second."
        ),
        scales={"digits": 6, "mnist": 20, "cifar-small": 20},
        check="scaleinv.papers.lobacheva2021.bounds:equilibrium_net",
    ),
    Claim(
        id="jump-envelope",
        was="13-envelope-net",
        paper="Lobacheva et al. 2021",
        place="Proposition 1, Fig. 4",
        statement="On nets 1 - cos stays in the envelope of l and L of the period before.",
        tolerance=(
            "Percentiles 1 and 99 of eg over the whole period before; at least 95 % of the steps of every phase B"
            " that follows, run by run."
        ),
        scales={"digits": 6, "mnist": 20, "cifar-small": 20},
        check="scaleinv.papers.lobacheva2021.bounds:envelope_net",
    ),
    Claim(
        id="jump-times",
        was="13-times-net",
        paper="Lobacheva et al. 2021",
        place="Proposition 2",
        statement="On nets no break-down comes before t_min, and one has come by t_max.",
        tolerance=(
            "A jump is a turn of four equilibrium rotations; from every step of phase B with l and L of the "
            "period before, 95 % of the predictions. Where t_min is 0 it says nothing, which is counted too."
        ),
        scales={"digits": 8, "mnist": 20, "cifar-small": 20},
        check="scaleinv.papers.lobacheva2021.bounds:times_net",
    ),
    Claim(
        id="constant-interval",
        was="11-interval",
        paper="Lobacheva et al. 2021",
        place="Corollary 1, Fig. 3",
        statement="On a net the mean interval between break-downs times lr wd is constant.",
        tolerance=(
            "lr over a factor 8 at one weight decay, two seeds, at least 20 settled break-downs each: within a "
            "factor 1.6, the exponent too; 2 s.e. have to stay inside. Beside it what bookkeeping alone says."
        ),
        scales={"digits": 150, "mnist": 7600, "cifar-small": 13000},
        check="scaleinv.papers.lobacheva2021.frequency:interval",
    ),
    Claim(
        id="equal-product",
        was="11-equal-product",
        paper="Lobacheva et al. 2021",
        place="Corollary 1",
        statement=(
            "Equal lr wd with lr ten times apart: equal intervals, and break-downs at one effective learning rate."
        ),
        tolerance=("Two seeds each; the mean intervals within a factor 1.6 (2 s.e. inside), the median ELRs within 2."),
        scales={"digits": 2, "mnist": 1000, "cifar-small": 1000},
        check="scaleinv.papers.lobacheva2021.frequency:equal_product",
    ),
    Claim(
        id="no-periods-at-fixed-norm",
        was="11-no-periods",
        paper="Lobacheva et al. 2021",
        place="Section 5 (ablation), Fig. 3",
        statement="No break-downs where the norm is fixed, none at a large lr wd: both are in equilibrium.",
        tolerance=(
            "Fixed norms in regime 2 and in regime 1, judged by the loss; two seeds of a lr wd a hundred times "
            "the least."
        ),
        scales={"digits": 20, "mnist": 700, "cifar-small": 700},
        check="scaleinv.papers.lobacheva2021.frequency:no_periods",
    ),
    Claim(
        id="periods-to-equilibrium",
        paper="Lobacheva et al. 2021",
        place="Fig. 3",
        statement=(
            "Larger lr wd, shorter periods, and beyond a point equilibrium; a small lr has not broken down yet."
        ),
        tolerance=(
            "Every doubling of lr wd shortens the mean interval in steps (2 s.e.); one lr far above, one far below."
        ),
        scales={"digits": 12, "mnist": 200, "cifar-small": 200},
        check="scaleinv.papers.lobacheva2021.frequency:to_equilibrium",
    ),
    Claim(
        id="phase-c-lead",
        paper="Lobacheva et al. 2021",
        place="Fig. 4, phase C",
        statement="In a break-down the loss rises before the norm does.",
        tolerance=(
            "All break-downs over a factor 8 of lr wd: steps from where the loss is half-way up (log) to where "
            "rho^2 is; sign test against 0 at 1 %."
        ),
        scales={"digits": 6, "mnist": 20, "cifar-small": 20},
        check="scaleinv.papers.lobacheva2021.mechanism:lead",
    ),
    Claim(
        id="critical-elr",
        was="19-critical-elr",
        paper="Lobacheva et al. 2021, Kodryan et al. 2022",
        place="ours: it joins the two papers",
        statement=(
            "The ELR at break-down is that of the boundary between regimes 1 and 2 of the same net on the sphere."
        ),
        tolerance=(
            "The median over the settled break-downs of each lr wd against the middle of the interval in which a "
            "sweep on the sphere has the boundary: a factor 2."
        ),
        scales={"digits": 28, "mnist": 2000, "cifar-small": 2000},
        check="scaleinv.papers.lobacheva2021.mechanism:critical_elr",
    ),
    Claim(
        id="fixed-norm-late",
        paper="Lobacheva et al. 2021",
        place="Section 5 (ablation of the norm); checkpoints of ours",
        statement=(
            "From late in phase B, on the same batches, the free run breaks down, the one of fixed norm does not."
        ),
        tolerance=(
            "Three checkpoints in each of two runs, the last kept within 90 % of the longest phases B; two mean "
            "intervals long; break-downs by loss and effective gradient for both. Sign test over the pairs at 5 "
            "%."
        ),
        scales={"digits": 26, "mnist": 1500, "cifar-small": 1500},
        check="scaleinv.papers.lobacheva2021.mechanism:fixed_norm_late",
    ),
    Claim(
        id="fixed-norm-late-full-batch",
        paper="Lobacheva et al. 2021",
        place="Section 5 (ablation of the norm); checkpoints of ours",
        statement="The same with full-batch gradient descent: no noise throws a run of fixed norm out.",
        tolerance=("An MLP on 256 images; checkpoints every fifth step, chosen and judged as in ``fixed-norm-late``."),
        scales={"digits": 18},
        check="scaleinv.papers.lobacheva2021.mechanism:fixed_norm_late_full_batch",
    ),
    Claim(
        id="jumps-of-the-recursion",
        was="13-jumps",
        paper="Lobacheva et al. 2021",
        place="Propositions 1 and 2",
        statement=("On the norm recursion 1 - cos stays in its envelope, and t_min and t_max predict the first jump."),
        tolerance=(
            "Constant eg: times to 0.1 %. Random eg in [l, L]: every step inside the envelope, every first jump "
            "between the times."
        ),
        scales={"toy": 2},
        check="scaleinv.papers.lobacheva2021.norm:jumps",
    ),
    Claim(
        id="jump-size",
        was="prop-1",
        paper="Lobacheva et al. 2021",
        place="Definition 1, Proposition 1, eqs. 5a and 5b",
        statement=("A delta-jump happens iff rho^2 < lr eg / ((1 - lr wd) s(delta)); the printed form drops O(delta)."),
        tolerance=(
            "Explicit vectors with random tangent gradients: the angle between x and x' decides, no formula for "
            "the cosine is used."
        ),
        scales={"toy": 1},
        check="scaleinv.papers.lobacheva2021.norm:proposition_1",
    ),
    Claim(
        id="jump-times-of-the-recursion",
        was="prop-2",
        paper="Lobacheva et al. 2021",
        place="Proposition 2",
        statement=("Under its conditions a jump comes between t_min and t_max; beyond the conditions none need come."),
        tolerance=(
            "Three laws of eg and three products lr wd inside the conditions; just beyond each condition the "
            "extreme law never jumps."
        ),
        scales={"toy": 4},
        check="scaleinv.papers.lobacheva2021.norm:proposition_2",
    ),
    Claim(
        id="jump-frequency",
        was="cor-1",
        paper="Lobacheva et al. 2021",
        place="Corollary 1",
        statement=(
            "Jumps of a given size come at a frequency proportional to lr wd; only the product of lr and wd matters."
        ),
        tolerance=(
            "eg = l until a jump is possible, then one kick of L: the mean interval times lr wd over a factor 8, "
            "three lr at each."
        ),
        scales={"toy": 2},
        check="scaleinv.papers.lobacheva2021.norm:corollary_1",
    ),
    Claim(
        id="toy-periods",
        paper="Lobacheva et al. 2021",
        place="Section 4 (toy scale-invariant function); the exponent is ours",
        statement=("With decay the toy breaks down periodically, about (lr wd)^-1/2 steps apart; on the sphere never."),
        tolerance=(
            "One group, gradient noise 1e-9. Deterministic growth from the noise floor takes sqrt(ln(1/noise)/(2 "
            "lr wd)) steps past the edge."
        ),
        scales={"toy": 1},
        check="scaleinv.papers.lobacheva2021.norm:toy_periods",
    ),
    Claim(
        id="norm-interval-of-the-recursion",
        was="thm-1",
        paper="Lobacheva et al. 2021",
        place="Theorem 1",
        statement=(
            "In the end kappa l <= rho^2 <= kappa L (times (1 - lr wd/2)^-1/2), approached linearly in O(1/(lr wd))."
        ),
        tolerance=(
            "Random and adversarial laws inside the exact conditions; the counterexample that the printed "
            "condition alone allows."
        ),
        scales={"toy": 3},
        check="scaleinv.papers.lobacheva2021.norm:theorem_1",
    ),
    Claim(
        id="warm-up-stage",
        paper="Lobacheva et al. 2021",
        place="warm-up stage, Fig. 3",
        statement="Over the first periods the ELR at break-down rises and each period ends at a lower loss.",
        tolerance=(
            "Eight seeds that start far below the critical ELR; mean slopes of the logarithms over the first four"
            " break-downs, against 0 at 2 s.e. between seeds."
        ),
        scales={"digits": 41, "mnist": 1500, "cifar-small": 1500},
        check="scaleinv.papers.lobacheva2021.stages:warm_up_stage",
    ),
    Claim(
        id="minima-of-periods",
        paper="Lobacheva et al. 2021",
        place="minima of different periods; the measures are ours",
        statement=("Minima of different periods are different functions, and averaging two of them does not hurt."),
        tolerance=(
            "Weights at the lowest epoch loss of the first eight periods, two seeds: pairs of periods turn "
            "further apart and agree on fewer test images than two epochs of one phase B; the pair ensemble's "
            "error is not above the mean of the two."
        ),
        scales={"digits": 10, "mnist": 100, "cifar-small": 100},
        check="scaleinv.papers.lobacheva2021.stages:minima_of_periods",
    ),
    Claim(
        id="periods-momentum",
        paper="Lobacheva et al. 2021",
        place="ablations; at a rate of ours",
        statement="Periods remain with momentum 0.9 and coupled weight decay.",
        tolerance=(
            "One run; periodic by the definitions of ``analysis/periods``: at least three destabilisations, which"
            " carry at least half of the rises of the norm."
        ),
        scales={"digits": 6, "mnist": 240, "cifar-small": 240},
        check="scaleinv.papers.lobacheva2021.variations:momentum",
    ),
    Claim(
        id="periods-augmentation",
        paper="Lobacheva et al. 2021",
        place="ablations; at a rate of ours",
        statement="Periods remain with augmentation.",
        tolerance=(
            "One run; periodic by the definitions of ``analysis/periods``: at least three destabilisations, which"
            " carry at least half of the rises of the norm."
        ),
        scales={"digits": 14, "mnist": 560, "cifar-small": 560},
        check="scaleinv.papers.lobacheva2021.variations:augmentation",
    ),
    Claim(
        id="periods-standard",
        paper="Lobacheva et al. 2021",
        place="ablations; at a rate of ours",
        statement="Periods remain with trainable affine norms and last layer.",
        tolerance=(
            "One run; periodic by the definitions of ``analysis/periods``: at least three destabilisations, which"
            " carry at least half of the rises of the norm."
        ),
        scales={"digits": 6, "mnist": 240, "cifar-small": 240},
        check="scaleinv.papers.lobacheva2021.variations:standard",
    ),
    Claim(
        id="periods-layer-norm",
        paper="Lobacheva et al. 2021",
        place="ablations; at a rate of ours",
        statement="Periods remain with layer normalization.",
        tolerance=(
            "One run; periodic by the definitions of ``analysis/periods``: at least three destabilisations, which"
            " carry at least half of the rises of the norm."
        ),
        scales={"digits": 6, "mnist": 240, "cifar-small": 240},
        check="scaleinv.papers.lobacheva2021.variations:layer_norm",
    ),
    Claim(
        id="periods-group-norm",
        paper="Lobacheva et al. 2021",
        place="ablations; at a rate of ours",
        statement="Periods remain with group normalization.",
        tolerance=(
            "One run; periodic by the definitions of ``analysis/periods``: at least three destabilisations, which"
            " carry at least half of the rises of the norm."
        ),
        scales={"digits": 6, "mnist": 240, "cifar-small": 240},
        check="scaleinv.papers.lobacheva2021.variations:group_norm",
    ),
    Claim(
        id="periods-weight-norm",
        paper="Lobacheva et al. 2021",
        place="ablations; at a rate of ours",
        statement="Periods remain with weight normalization.",
        tolerance=(
            "One run; periodic by the definitions of ``analysis/periods``: at least three destabilisations, which"
            " carry at least half of the rises of the norm."
        ),
        scales={"digits": 10, "mnist": 400, "cifar-small": 400},
        check="scaleinv.papers.lobacheva2021.variations:weight_norm",
    ),
    Claim(
        id="periods-full-batch",
        paper="Lobacheva et al. 2021",
        place="ablations; at a rate of ours",
        statement="Periods remain with full-batch gradient descent (an MLP on 256 images).",
        tolerance=(
            "One run; periodic by the definitions of ``analysis/periods``: at least three destabilisations, which"
            " carry at least half of the rises of the norm."
        ),
        scales={"digits": 10, "mnist": 400, "cifar-small": 400},
        check="scaleinv.papers.lobacheva2021.variations:full_batch",
    ),
    Claim(
        id="periods-adam-l2",
        paper="Lobacheva et al. 2021",
        place="ablations; at a rate of ours",
        statement="Periods remain with Adam, the weight decay in its gradient.",
        tolerance=(
            "One run; periodic by the definitions of ``analysis/periods``: at least three destabilisations, which"
            " carry at least half of the rises of the norm."
        ),
        scales={"digits": 11, "mnist": 440, "cifar-small": 440},
        check="scaleinv.papers.lobacheva2021.variations:adam_l2",
    ),
    Claim(
        id="periods-adamw",
        paper="Lobacheva et al. 2021",
        place="ablations; at a rate of ours",
        statement="Periods remain with AdamW, decoupled weight decay.",
        tolerance=(
            "One run; periodic by the definitions of ``analysis/periods``: at least three destabilisations, which"
            " carry at least half of the rises of the norm."
        ),
        scales={"digits": 11, "mnist": 440, "cifar-small": 440},
        check="scaleinv.papers.lobacheva2021.variations:adamw",
    ),
)

FIGURES = (
    FigureEntry(
        id="fig1",
        paper="Lobacheva et al. 2021",
        place="Fig. 1",
        title="Training with weight decay breaks down again and again, and never for good: ConvNet and ResNet-18",
        scales={"digits": 300, "cifar-small": 6600, "paper": 5e06},
        numbers="scaleinv.papers.lobacheva2021.fig1:numbers",
        draw="scaleinv.papers.lobacheva2021.fig1:draw",
    ),
    FigureEntry(
        id="fig2",
        paper="Lobacheva et al. 2021",
        place="Fig. 2",
        title="A gradient step lengthens scale-invariant weights, weight decay shortens them",
        scales={"toy": 1},
        numbers="scaleinv.papers.lobacheva2021.fig2:numbers",
        draw="scaleinv.papers.lobacheva2021.fig2:draw",
    ),
    FigureEntry(
        id="fig3",
        paper="Lobacheva et al. 2021",
        place="Fig. 3",
        title="Periodic behaviour at several learning rates: train loss, test error, norm, phase diagram",
        scales={"digits": 110, "cifar-tiny": 200, "cifar-small": 4000, "paper": 2e06},
        numbers="scaleinv.papers.lobacheva2021.fig3:numbers",
        draw="scaleinv.papers.lobacheva2021.fig3:draw",
    ),
    FigureEntry(
        id="fig4",
        paper="Lobacheva et al. 2021",
        place="Fig. 4",
        title="One period: train loss, norm, the break-down in close-up, rotation of a step with the bounds of theory",
        scales={"digits": 40, "cifar-tiny": 65, "cifar-small": 1000, "paper": 500000},
        numbers="scaleinv.papers.lobacheva2021.fig4:numbers",
        draw="scaleinv.papers.lobacheva2021.fig4:draw",
    ),
    FigureEntry(
        id="ablation",
        paper="Lobacheva et al. 2021",
        place="ablation: fixed norm",
        title="The norm free, and fixed at two values: below the critical ELR a fixed norm never breaks down",
        scales={"digits": 80, "cifar-tiny": 190, "cifar-small": 3000, "paper": 1.5e06},
        numbers="scaleinv.papers.lobacheva2021.fig_ablation:numbers",
        draw="scaleinv.papers.lobacheva2021.fig_ablation:draw",
    ),
    FigureEntry(
        id="forces",
        paper="Lobacheva et al. 2021",
        place="Fig. 2 (as a graph)",
        title="What gradients and weight decay do to the norm in one step",
        scales={"toy": 1},
        numbers="scaleinv.papers.lobacheva2021.fig_forces:numbers",
        draw="scaleinv.papers.lobacheva2021.fig_forces:draw",
    ),
    FigureEntry(
        id="frequency",
        paper="Lobacheva et al. 2021",
        place="Corollary 1 (our picture)",
        title="The interval between break-downs is proportional to 1/(lr wd), whatever the learning rate",
        scales={"digits": 260, "cifar-small": 5000, "paper": 2e07},
        numbers="scaleinv.papers.lobacheva2021.fig_frequency:numbers",
        draw="scaleinv.papers.lobacheva2021.fig_frequency:draw",
    ),
    FigureEntry(
        id="norm-bounds",
        paper="Lobacheva et al. 2021",
        place="Theorem 1",
        title="The norm recursion under four laws of the gradient, and the interval of Theorem 1",
        scales={"toy": 1},
        numbers="scaleinv.papers.lobacheva2021.fig_norm_bounds:numbers",
        draw="scaleinv.papers.lobacheva2021.fig_norm_bounds:draw",
    ),
    FigureEntry(
        id="toy-periods",
        paper="Lobacheva et al. 2021",
        place="Figs. 1 and 4, on the toy function",
        title="Periods of the toy function with weight decay: F, squared norm, ELR",
        scales={"toy": 2},
        numbers="scaleinv.papers.lobacheva2021.fig_toy_periods:numbers",
        draw="scaleinv.papers.lobacheva2021.fig_toy_periods:draw",
    ),
)
