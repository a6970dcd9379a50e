"""Claims of other papers, on which this package builds."""

from __future__ import annotations

from scaleinv.papers.claim import Claim

CLAIMS = (
    Claim(
        id="phi-dynamics",
        paper="Amin, Chang, Khanna 2026",
        place="update of Phi; solvable model",
        statement=(
            "Phi' = B Phi/(1 + Phi^2 eg^2) exactly; on L = 1 - <beta, u> rest is an unstable spiral, sqrt(1+a-a^2)."
        ),
        tolerance="Literal SGD with decay and a schedule on vectors; finite differences of the model's step.",
        scales={"toy": 1},
        check="scaleinv.papers.others.amin2026:phi_dynamics",
    ),
    Claim(
        id="break-down-window",
        paper="Lobacheva et al. 2021",
        place="periods; the forecast is ours",
        statement=("The window a Monitor tells for the next break-down contains it in at least 80 % of the periods."),
        tolerance=(
            "Three MLPs and a convnet, seeds not used in the design. Coverage over all windows, with the standard"
            " error of a share; beside it the naive window, mean -+ 1.645 sd of the last 20 times, which should "
            "not be narrower."
        ),
        scales={"digits": 42},
        check="scaleinv.papers.others.break_down_window:calibration",
    ),
    Claim(
        id="rotation-at-equilibrium",
        was="15-rotation",
        paper="Kosson et al. 2024, Wan et al. 2020",
        place="table of equilibria",
        statement=(
            "SGD, SGDM, AdamW and Lion rotate a scale-invariant weight by a known angle per step, at a known norm."
        ),
        tolerance=(
            "Four weights of 2000 numbers, lr wd = 5e-4, 8000 steps after five time scales, from 1.3 times the norm."
        ),
        scales={"toy": 16},
        check="scaleinv.papers.others.kosson2024:rotation",
    ),
    Claim(
        id="angle-after-lr-drop",
        was="lr-drop",
        paper="Wan et al. 2020",
        place="angular update after a drop of the learning rate",
        statement=("When lr falls by q the angle falls by q, then returns to sqrt(q) of the old at the rate 4 lr' wd."),
        tolerance="The exact norm recursion with a constant eg, started at the old equilibrium.",
        scales={"toy": 1},
        check="scaleinv.papers.others.kosson2024:drop",
    ),
    Claim(
        id="edge-with-weight-decay",
        was="18-edge",
        paper="Lyu, Li, Arora 2022",
        place="edge of stability on the sphere",
        statement=("Full-batch descent with weight decay: ELR times lambda_1 of the spherical Hessian rises to 2."),
        tolerance=(
            "Full-batch descent of an MLP on 512 images, squared loss, two seeds; Lanczos at the kept weights. lr"
            " wd is small, 1e-4: at the edge the ELR is pushed up by 2 lr wd a step, and the faster that is, the "
            "larger is the oscillation and the further from 2 the product at the iterates (up to 2.5 at 3e-4, 2.1"
            " to 4.8 at 1e-3). A small network on few images has another error: its Hessian does not see the "
            "kinks of ReLU, and the product stops at 1.5 (width 32, 256 images, one seed of two). The weights are"
            " kept every 151 steps: the oscillation at the edge has period 2, so an even distance would see one "
            "side of it only."
        ),
        scales={"digits": 28},
        check="scaleinv.papers.others.lyu2022:full_batch_edge",
    ),
    Claim(
        id="rotation-on-a-net",
        was="15-net",
        paper="Kosson et al. 2024, Wan et al. 2020",
        place="table of equilibria, on a net",
        statement=(
            "SGDM, AdamW and Lion turn the matrices of a scale-invariant net as predicted, at the predicted norm."
        ),
        tolerance=(
            "Pixels standardised, so that every weight whose pixel is ever lit gets a gradient in every step; 20 "
            "% a matrix, two seeds."
        ),
        scales={"digits": 19},
        check="scaleinv.papers.others.rotation_net:on_a_net",
    ),
    Claim(
        id="rotation-on-raw-pixels",
        was="15-net-raw",
        paper="Kosson et al. 2024, Wan et al. 2020",
        place="table of equilibria, on a net",
        statement="The same on raw pixels, three of which are always dark and eight rarely lit.",
        tolerance=(
            "As rotation-on-a-net. Weights that never get a gradient are left out of the second norm only, a rule "
            "fixed beforehand; those that get one rarely are counted, and told apart in the notes. It fails for AdamW "
            "and Lion on the first matrix: they give a weight with rare gradients steps as large as any other's, "
            "but its gradients come from the same few images and point the same way each time, so it is no random"
            " walk: the weight grows to three or four times the predicted. SGD gives it small steps."
        ),
        scales={"digits": 19},
        check="scaleinv.papers.others.rotation_net:on_raw_pixels",
    ),
    Claim(
        id="toy-one-sample",
        was="16-one-sample",
        paper="2505.23489",
        place="3-D toy model",
        statement=(
            "One sample a step: the over-parameterised toy converges iff elr < 1; the other's least loss is 1/26."
        ),
        tolerance="20 000 steps, 4 orders of samples; the edge between 0.99 and 1.01.",
        scales={"toy": 3},
        check="scaleinv.papers.others.sadrtdinov2025:one_sample_toy",
    ),
    Claim(
        id="ideal-gas",
        was="17-ideal-gas",
        paper="2511.07308",
        place="stationary radius, pressure and loss",
        statement=(
            "Under isotropic noise the radius, pressure on a fixed sphere and mean loss obey the ideal gas law."
        ),
        tolerance=(
            "``1 + mu.x/|x|`` in three dimensions, noise 1, all three protocols; the loss within 2 % plus its "
            "standard error."
        ),
        scales={"toy": 12},
        check="scaleinv.papers.others.sadrtdinov2025:ideal_gas",
    ),
)
