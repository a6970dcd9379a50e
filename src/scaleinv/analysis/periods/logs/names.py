"""Find out which column of a log is what, by the names people use, or as a user says."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from scaleinv.analysis.periods.logs.table import Table
from scaleinv.errors import UserError

#: what a column may be -> its names in the wild, the likeliest first; compared without case, "/", ".", "-" and blanks
NAMES: dict[str, tuple[str, ...]] = {
    "step": (
        "scaleinv_step", "trainer_global_step", "train_global_step", "global_step", "step", "steps", "num_updates",
        "iteration", "iterations", "iter", "it", "update", "updates", "train_step", "training_step", "global_steps",
        "optimizer_step", "num_steps", "_step", "s", "batch", "num_batches", "train_iter",
    ),
    "epoch": ("epoch", "train_epoch", "epochs", "trainer_epoch", "train_epochs", "train_epoch_step"),
    "loss": (
        "loss", "train_loss", "train_loss_step", "training_loss", "loss_train", "loss_step", "train_batch_loss",
        "batch_loss", "lm_loss", "trl", "train_nll_loss", "nll_loss", "train_ce_loss", "ce_loss", "train_lm_loss",
        "loss_training", "losses_train", "tr_loss", "train_total_loss", "total_loss", "cross_entropy",
        "train_cross_entropy", "train_inner_loss", "loss_total", "scaleinv_total_loss", "train_loss_epoch",
        "loss_epoch", "train_epoch_loss", "avg_loss", "train_loss_avg", "training_loss_avg", "mean_loss",
    ),
    "rho": (
        "rho", "total_rho", "scaleinv_total_rho", "norm", "weight_norm", "weights_norm", "w_norm", "norm_weights",
        "norm_weight", "param_norm", "params_norm", "parameter_norm", "weight_norm_total", "train_param_norm",
        "train_weight_norm", "train_params_norm", "norms_weight", "l2_norm", "model_norm", "global_param_norm",
    ),
    "rho_sq": ("rho_sq", "rho_2", "rho2", "norm_sq", "weight_norm_sq", "rho_squared", "squared_norm",
        "weight_norm_squared"),
    "eg": ("eg", "effective_gradient", "total_eg", "scaleinv_total_eg", "effective_grad_norm",
        "effective_gradient_norm"),
    "g": (
        "g", "grad_norm", "gradient_norm", "train_grad_norm", "gnorm", "train_gnorm", "global_grad_norm",
        "grad_2_0_norm_total", "grad_norm_total", "total_grad_norm", "train_global_grad_norm", "gradnorm",
        "train_gradient_norm", "grads_norm", "norm_grad", "norm_grads", "optim_total_grad_norm", "grad_l2_norm",
        "gradient_l2_norm", "gradients_norm", "total_norm", "train_inner_gnorm", "total_g", "scaleinv_total_g",
    ),
    "lr": (
        "lr", "learning_rate", "train_learning_rate", "train_lr", "lr_pg1", "lr_0", "lr_group_0", "lr_group0", "lr_pg0",
        "optim_lr", "optim_learning_rate_group0", "optimizer_lr", "lr_sgd", "lr_adamw", "lr_adam", "lr_sgd_pg1",
        "lr_adamw_pg1", "lr_adam_pg1", "learning_rate_0", "lr_train", "current_lr", "base_lr", "train_inner_lr",
        "learningrate", "scaleinv_total_lr", "total_lr", "lr_max",
    ),
    "wd": ("wd", "weight_decay", "train_weight_decay", "weightdecay", "train_wd", "optim_weight_decay"),
    "angle": ("angle", "total_angle", "scaleinv_total_angle"),
}  # fmt: skip
#: a name with fewer cells than this share of another's is not what it says (a summary at the end)
_SELDOM = 0.2
#: words by which a column is not of training
_OTHERS = re.compile(r"(^|_)(val|valid|validation|eval|evaluation|test|dev|ema|min|max|ppl|aux|z|scaled?|best)(_|$)")


def plain(name: str) -> str:
    """Write a name without case and separators, and without the unit or arrow around it.

    >>> plain("train/Loss"), plain("lr-AdamW/pg1"), plain("learning rate")
    ('train_loss', 'lr_adamw_pg1', 'learning_rate')
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("^", "_")).strip("_") if name != "_step" else "_step"


def asked(text: str) -> dict[str, str]:
    """Read ``step=_step,loss=train/loss``; ``rho=`` says that there is none.

    Errors: UserError for anything else, and for a word that is no column of a log.

    >>> asked("step=_step,loss=train/loss")
    {'step': '_step', 'loss': 'train/loss'}
    """
    found: dict[str, str] = {}
    for part in re.split(r",(?=\s*\w+\s*=)", text):
        role, is_, name = part.partition("=")
        role = role.strip()
        if not is_ or role not in NAMES:
            raise UserError(
                f"--columns {part.strip()!r}: write WHAT=NAME with WHAT one of {', '.join(NAMES)}, several with commas "
                "between, such as step=_step,loss=train/loss"
            )
        if role in found:
            raise UserError(f"--columns: {role} is there twice")
        found[role] = name.strip()
    return found


def places(table: Table, where: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """Find the name of every column that is known: as ``wanted``, else by :data:`NAMES`.

    Errors: UserError for a name that is not there, or for one that could be several columns.
    """
    names = [name for name in table.columns if table.known(name) or name in table.wrong]
    often = {name: int(table.given[name].sum()) for name in names}
    found = {role: _exactly(names, where, role, name) for role, name in wanted.items() if name}
    taken = set(found.values())
    lone = [name for name in names if name.lower() == "value"]
    if lone and "loss" not in wanted and not {plain(name) for name in names} & set(NAMES["loss"]):
        found["loss"] = lone[0]  # TensorBoard's page: Wall time, Step, Value
        taken.add(lone[0])
    short = _short(names)
    for role in ("loss", *(role for role in NAMES if role != "loss")):
        known = NAMES[role]
        if role in wanted:
            continue
        usual = known
        if table.norm_is_gradient:  # what training scripts print as "norm" is the gradient's
            usual = tuple(n for n in known if n != "norm") + (("norm",) if role == "g" else ())
        free = [name for name in names if name not in taken]
        if role == "step" and (loss := found.get("loss")):  # of several counters the one that stands beside the loss
            often = {name: int((table.given[name] & table.given[loss]).sum()) for name in names}
        name = _likely(free, short, role, usual, where, often)
        if name is not None:
            found[role] = name
            taken.add(name)
    if "rho" in found and "rho_sq" in found:
        del found["rho_sq" if "rho_sq" not in wanted else "rho"]
    return found


def _exactly(names: Sequence[str], where: str, role: str, name: str) -> str:
    if name in names:
        return name
    alike = [other for other in names if plain(other) == plain(name)]
    if len(alike) == 1:
        return alike[0]
    near = difflib.get_close_matches(name, names, 3, 0.5)
    raise UserError(f"--columns {role}={name}: {where} has no column {name!r} ({_few(near or names)})")


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"it has {shown}{', ...' if len(names) > 8 else ''}" if names else "it has none with a number"


def _short(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Split the names of W&B's page, ``run - metric``, into run and metric; of others the run is empty."""
    found = {}
    for name in names:
        run, is_, metric = name.rpartition(" - ")
        found[name] = (run, plain(metric)) if is_ else ("", plain(name))
    return found


def _likely(
    names: Sequence[str],
    short: Mapping[str, tuple[str, str]],
    role: str,
    known: Sequence[str],
    where: str,
    often: Mapping[str, int],
) -> str | None:
    most = max((often[name] for name in names if short[name][1] in known), default=0)
    for usual in known:
        alike = [name for name in names if short[name][1] == usual and often[name] >= _SELDOM * most]
        if len(alike) > 1:
            exact = [name for name in alike if name == usual]
            alike = exact or alike
        if len(alike) > 1 and len({short[name][0] for name in alike}) > 1:
            raise UserError(
                f"{where} has {role} of {len(alike)} runs; choose one: --columns {role}={alike[0]!r} ({_few(alike)})"
            )
        if alike:
            return alike[0]
    if role == "loss":
        words = [name for name in names if "loss" in short[name][1] and not _OTHERS.search(short[name][1])]
        if len(words) > 1:
            train = [name for name in words if "train" in short[name][1]]
            words = train if len(train) == 1 else words
        if len(words) > 1:
            raise UserError(f"{where}: which column is the loss? Say it: --columns loss={words[0]} ({_few(words)})")
        return words[0] if words else None
    if role == "lr":
        words = [name for name in names if re.search(r"(^|_)(lr|learning_rate)(_|$)", short[name][1])]
        return words[0] if words and not any(_OTHERS.search(short[n][1]) for n in words[:1]) else None
    if role == "g":
        words = [name for name in names if re.search(r"grad(ient)?s?_.*norm|norm_.*grad", short[name][1])]
        return words[0] if len(words) == 1 else None
    return None
