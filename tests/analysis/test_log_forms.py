"""The logs that people have are read: every form gives the columns it was written from."""

# ruff: noqa: E501 - lines of logs, as they are printed

import gzip
import json
import struct

import numpy as np
import pytest
from tests.analysis.series import breaking, columns

from scaleinv.analysis.periods import find_periods
from scaleinv.analysis.periods.logs import read_log
from scaleinv.analysis.periods.logs import source as source_of
from scaleinv.analysis.periods.logs.names import asked
from scaleinv.analysis.periods.logs.text import pairs
from scaleinv.errors import UserError

N = np.arange(60)
LOSS, RHO, G = 2.0 / (1 + N) + 0.5, 10.0 - 0.1 * N, 0.3 + 0.01 * N


def table(names, rows, separator=","):
    lines = [separator.join("" if cell is None else str(cell) for cell in row) for row in (names, *rows)]
    return "\n".join(lines) + "\n"


def every(cell, n=10):
    return [value if k % n == 0 else None for k, value in enumerate(cell)]


def event(step, *values):
    """An event of TensorBoard: fields 2 (step) and 5 (summary of values: tag, simple_value)."""

    def field(number, data):
        return bytes([number << 3 | 2]) + varint(len(data)) + data

    def varint(value):
        return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])

    summary = b""
    for tag, value in values:
        if isinstance(value, bytes):  # a tensor
            summary += field(1, field(1, tag.encode()) + field(8, value))
        else:
            summary += field(1, field(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
    data = b"\x09" + struct.pack("<d", 1.7e9) + b"\x10" + varint(step) + field(5, summary)
    return struct.pack("<QI", len(data), 0) + data + bytes(4)


VERSION = struct.pack("<QI", 24, 0) + b"\x09" + bytes(8) + b"\x1a\x0dbrain.Event:2" + bytes(4)
#: form -> (name of the file, its content)
FORMS = {
    "W&B's page": (
        "wandb.csv",
        table(
            [f'"{n}"' for n in ("Step", "kind-sun-3 - train/loss", "kind-sun-3 - weight_norm", "kind-sun-3 - weight_norm__MIN")],
            zip(N, LOSS, RHO, RHO * 0),
        ),
    ),
    "W&B's history": (
        "history.csv",
        table(["", "_step", "_runtime", "train/loss", "weight_norm", "val/loss"], zip(N, N, N * 7, LOSS, RHO, every(LOSS))),
    ),
    "Trainer through W&B": (
        "hf.csv",
        table(["_step", "train/global_step", "train/loss", "weight_norm", "eval/loss"], zip(3 * N, N, LOSS, RHO, every(N))),
    ),
    "Lightning": (
        "metrics.csv",
        table(
            ["epoch", "lr-SGD", "step", "train_loss_step", "train_loss_epoch", "val_loss", "weight_norm"],
            [
                row
                for k in N
                for row in (
                    [k // 20, None, k, LOSS[k], None, None, RHO[k]],
                    [k // 20, 0.1, k, None, None, None, None],
                    *([[k // 20, None, k, None, 9.0, 8.0, None]] if k % 20 == 19 else []),
                )
            ],
        ),
    ),
    "the Trainer's state": (
        "trainer_state.json",
        json.dumps(
            {
                "global_step": 60,
                "log_history": [
                    *({"epoch": k / 20, "grad_norm": G[k], "loss": LOSS[k], "step": int(k), "weight_norm": RHO[k]} for k in N),
                    {"epoch": 3.0, "eval_loss": 7.0, "step": 60},
                    {"epoch": 3.0, "train_loss": 6.0, "train_runtime": 3.0, "step": 60},
                ],
            },
            indent=2,
        ),
    ),
    "JSON lines": (
        "log.jsonl",
        "".join(json.dumps({"train": {"loss": LOSS[k], "x": None}, "step": int(k), "rho": RHO[k], "tag": "a"}) + "\n" for k in N),
    ),
    "fairseq's JSON": (
        "train.log",
        "2024-01-01 12:00:00 | INFO | fairseq | nothing\n"
        + "".join(
            "2024-01-01 12:00:00 | INFO | train_inner | "
            + json.dumps({"loss": str(LOSS[k]), "num_updates": str(k), "param_norm": str(RHO[k])})
            + "\n"
            for k in N
        ),
    ),
    "pandas' JSON": ("frame.json", json.dumps({"step": dict(enumerate(N.tolist())), "loss": dict(enumerate(LOSS)), "rho": dict(enumerate(RHO))})),
    "columns of JSON": ("columns.json", json.dumps({"step": N.tolist(), "loss": LOSS.tolist(), "rho": RHO.tolist()})),
    "modded-nanogpt": (
        "log.txt",
        "import os\nx = 3\n=====\nRunning Python 3.12.7\n"
        + "".join(
            (f"step:{k}/60 val_loss:9.1234 train_time:0ms\n" if k % 20 == 0 else "")
            + f"step:{k}/60 train_loss:{LOSS[k]:.17g} rho:{RHO[k]:.17g} lr:1e-3 train_time:{k * 98}ms step_avg:98.12ms\n"
            for k in N
        ),
    ),
    "nanoGPT": (
        "out.txt",
        "number of parameters: 124.34M\n"
        + "".join(
            (f"step {k}: train loss 4.2, val loss 4.3\n" if k % 20 == 0 else "")
            + f"iter {k}: loss {LOSS[k]:.17g}, rho {RHO[k]:.17g}, time 3215.40ms, mfu 17.62%\n"
            for k in N
        ),
    ),
    "llm.c": (
        "llmc.txt",
        "".join(
            f"step {k:4d}/60 | loss {LOSS[k]:.17g} (+nanz)| norm {G[k]:.4f} (+1.02z)| rho {RHO[k]:.17g} | lr 1.00e-04 | 99.8 ms | 50.1% bf16 MFU | 5128 tok/s\n"
            for k in N
        ),
    ),
    "Megatron": (
        "megatron.log",
        "".join(
            f" [2024-05-01 12:00:01] iteration {k:8d}/      60 | consumed samples: {k * 512:12d} | elapsed time per iteration (ms): 1234.5 "
            f"| learning rate: 1.000E-04 | lm loss: {LOSS[k]:.17E} | loss scale: 1.0 | grad norm: {G[k]:.3f} | params norm: {RHO[k]:.17f} |\n"
            for k in N
        ),
    ),
    "logging's lines": (
        "app.log",
        "".join(f"2024-05-01 12:00:{k:02d},123 - train - INFO - step={k} train_loss={LOSS[k]:.17g} rho={RHO[k]:.17g}\n" for k in N),
    ),
    "decimal commas": (
        "excel.csv",
        "\ufeff" + table(["Iteration", "Loss", "rho"], [[k, str(LOSS[k]).replace(".", ","), str(RHO[k]).replace(".", ",")] for k in N], ";"),
    ),
    "commas in quotes": (
        "quoted.csv",
        table(["step", "loss", "rho"], [[k, f'"{LOSS[k]}"'.replace(".", ","), f'"{RHO[k]}"'.replace(".", ",")] for k in N]),
    ),
    "tabs": ("log.tsv", table(["update", "train loss", "rho"], zip(N, LOSS, RHO), "\t")),
    "one value a row": (
        "mlflow.csv",
        table(["run_id", "key", "value", "step", "timestamp"], [["ab12", key, cell[k], k, 17] for key, cell in (("loss", LOSS), ("rho", RHO)) for k in N]),
    ),
    "one value a row, JSON": (
        "mlflow.json",
        json.dumps([{"key": key, "value": cell[k], "step": int(k), "timestamp": 1} for key, cell in (("loss", LOSS), ("rho", RHO)) for k in N]),
    ),
    "squared norm": ("squares.csv", table(["it", "loss", "rho^2"], zip(N, LOSS, RHO**2))),
    "unsorted rows": ("mixed.csv", table(["step", "loss", "rho"], [(k, LOSS[k], RHO[k]) for k in np.random.default_rng(0).permutation(N)])),
    "backwards": ("backwards.csv", table(["step", "loss", "rho"], [(k, LOSS[k], RHO[k]) for k in N[::-1]])),
    "a resumed run": (
        "resumed.csv",
        table(["step", "loss", "rho"], [(k, 9.0, 9.0) if k > 30 else (k, LOSS[k], RHO[k]) for k in N[:50]] + [(k, LOSS[k], RHO[k]) for k in N[31:]]),
    ),
    "batches of epochs": (
        "batches.txt",
        "".join(f"Epoch [{k // 20 + 1}/3], Step [{k % 20}/20], Loss: {LOSS[k]:.17g}, rho: {RHO[k]:.17g}\n" for k in N),
    ),
    "dicts of Python": ("dicts.txt", "".join(str({"loss": float(LOSS[k]), "rho": float(RHO[k]), "step": int(k)}) + "\n" for k in N)),
    "event files": (
        "events.out.tfevents.1700000000.host.1.0",
        VERSION + b"".join(event(int(k), ("Loss/train", LOSS[k]), ("weight_norm", RHO[k]), ("img", b"\x08\x07")) for k in N),
    ),
    "events of one tag each": (
        "events.out.tfevents.1700000001.host.1.0",
        VERSION + b"".join(event(int(k), (tag, of[k])) for k in N for tag, of in (("loss", LOSS), ("rho", RHO))),
    ),
    "events with tensors": (
        "events.out.tfevents.1700000002.host.1.v2",
        VERSION
        + b"".join(
            event(
                int(k),
                ("loss", b"\x08\x01\x12\x00\x22\x04" + struct.pack("<f", LOSS[k])),  # tensor_content
                ("rho", b"\x08\x02\x12\x00\x31" + struct.pack("<d", RHO[k])),  # double_val
            )
            for k in N
        ),
    ),
}  # fmt: skip


def put(tmp_path, form):
    name, content = FORMS[form]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_its_columns(form, packed, tmp_path):
    path = put(tmp_path, form)
    if packed:
        path = path.with_name(path.name + ".gz")
        path.write_bytes(gzip.compress((tmp_path / FORMS[form][0]).read_bytes()))
    read = read_log(path)
    assert read.columns["step"].tolist() == N.tolist() if "batches" not in form else (read.columns["step"] == N).all()
    single = 1e-6 if "event" in form else 1e-12
    assert read.columns["loss"] == pytest.approx(LOSS, rel=single)
    assert read.columns["rho"] == pytest.approx(RHO, rel=single)
    assert read.counted == ""


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("decimal commas", "Commas within cells are read as decimal points."),
        ("unsorted rows", "Rows are not in the order of their steps; they are sorted."),
        ("a resumed run", "The run was resumed from step 31: 19 rows of the lost part are left out"),
        ("batches of epochs", "Steps begin again in every epoch: they are counted on, 20 an epoch."),
        ("W&B's page", "loss = kind-sun-3 - train/loss, step = Step, rho = kind-sun-3 - weight_norm."),
        ("Megatron", "params norm is taken for the norm of the scale-invariant weights"),
    ],
)
def test_what_was_done_is_told(form, words, tmp_path):
    assert words in " ".join(read_log(put(tmp_path, form)).said)


def test_gradient_norms_by_their_names(tmp_path):
    for form in ("the Trainer's state", "llm.c", "Megatron"):
        read = read_log(put(tmp_path, form))
        assert read.columns["eg"] == pytest.approx(G * RHO, rel=2e-3)


def test_columns_named_by_hand(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(table(["Zeit", "a,b", "loss", "|W|"], zip(N, LOSS, N * 0, RHO)))
    path.write_text(path.read_text().replace("a,b", '"a,b"'))
    read = read_log(path, columns="step=Zeit,loss=a,b,rho=|W|")
    assert read.columns["loss"].tolist() == LOSS.tolist()
    assert read.columns["rho"].tolist() == RHO.tolist()
    norm = tmp_path / "norm.csv"
    norm.write_text(table(["step", "loss", "norm"], zip(N, LOSS, G)))
    assert "rho" in read_log(norm).columns
    assert set(read_log(norm, columns={"g": "norm", "rho": ""}).columns) == {"step", "loss"}  # no norm to multiply with


def test_files_of_one_run_are_joined(tmp_path):
    for tag, column in (("train_loss", LOSS), ("weight_norm", RHO)):
        rows = zip(N * 1e3, N, column)
        (tmp_path / f"run-.-tag-{tag}.csv").write_text(table(["Wall time", "Step", "Value"], rows))
    read = read_log(*sorted(tmp_path.iterdir()))
    assert read.columns["loss"].tolist() == LOSS.tolist()
    assert read.columns["rho"].tolist() == RHO.tolist()
    with pytest.raises(UserError, match="both have loss"):
        read_log(*[tmp_path / "run-.-tag-train_loss.csv"] * 2)


def test_folders_of_tools(tmp_path):
    for form, folder in (("Lightning", "lightning_logs/version_0"), ("the Trainer's state", "out/checkpoint-60")):
        (tmp_path / folder).mkdir(parents=True)
        put(tmp_path / folder, form)
        assert read_log(tmp_path / folder.partition("/")[0]).columns["rho"].tolist() == RHO.tolist()
    board = tmp_path / "board"
    board.mkdir()
    put(board, "event files")
    later = VERSION + b"".join(event(int(k), ("Loss/train", 5.0), ("weight_norm", 4.0)) for k in N[40:])
    (board / "events.out.tfevents.1700009999.host.1.0").write_bytes(later + later[:20])  # resumed, and killed
    read = read_log(board)
    assert read.columns["loss"][:40] == pytest.approx(LOSS[:40])
    assert read.columns["loss"][40:].tolist() == [5.0] * 20
    said = " ".join(read.said)
    assert "was resumed from step 40" in said
    assert "cut short" in said
    metrics = tmp_path / "mlruns/0/ab/metrics"
    metrics.mkdir(parents=True)
    for name, column in (("loss", LOSS), ("rho", RHO), ("val_loss", LOSS)):
        (metrics / name).write_text("".join(f"170000 {column[k]} {k}\n" for k in N))
    assert read_log(tmp_path / "mlruns").columns["rho"].tolist() == RHO.tolist()
    (board / "other").mkdir()
    (board / "other" / "events.out.tfevents.3.h").write_bytes(VERSION)
    assert read_log(board).columns["loss"][40:].tolist() == [5.0] * 20  # the folder's own, not that of add_scalars
    (tmp_path / "lightning_logs/version_1").mkdir()
    put(tmp_path / "lightning_logs/version_1", "Lightning")
    with pytest.raises(UserError, match=r"holds the logs of 2 runs \(version_0, version_1\)"):
        read_log(tmp_path / "lightning_logs")


def test_tensorboards_own_writer(tmp_path):
    board = pytest.importorskip("torch.utils.tensorboard")
    with board.SummaryWriter(str(tmp_path)) as writer:
        for k in N:
            writer.add_scalar("train/loss", LOSS[k], k)
            writer.add_scalar("rho", RHO[k], k, new_style=bool(k % 2))
            writer.add_scalar("half", RHO[k], k)
        writer.add_histogram("weights", RHO, 3)
        writer.add_text("note", "step 3", 3)
    read = read_log(tmp_path)
    assert read.columns["loss"] == pytest.approx(LOSS)
    assert read.columns["rho"] == pytest.approx(RHO)


def test_a_norm_that_is_logged_now_and_then(tmp_path):
    path = tmp_path / "sparse.csv"
    path.write_text(table(["step", "loss", "rho", "lr"], zip(N, LOSS, every(RHO, 5), every(N * 0 + 0.1, 30))))
    read = read_log(path)
    assert read.columns["step"].tolist() == N[::5].tolist()
    assert read.columns["rho"].tolist() == RHO[::5].tolist()
    assert read.columns["lr"].tolist() == [0.1] * 12
    assert "12 of 60 rows have a norm: these are judged" in " ".join(read.said)
    path.write_text(table(["step", "loss", "rho"], zip(N, every(LOSS, 5), RHO)))
    assert read_log(path).columns["loss"].tolist() == LOSS[::5].tolist()
    # a norm and a loss that never share a row
    path.write_text(table(["step", "loss", "rho"], [(k, LOSS[k], None) if k % 2 else (k, None, RHO[k]) for k in N]))
    read = read_log(path)
    assert read.columns["loss"].tolist() == LOSS[1::2].tolist()
    assert read.columns["rho"].tolist() == RHO[::2].tolist()


def test_a_run_that_diverged_and_one_that_ends_with_a_validation(tmp_path):
    path = tmp_path / "log.csv"
    broken = [None if k >= 35 else loss for k, loss in enumerate(LOSS)]
    path.write_text(table(["step", "loss", "rho"], zip(N, broken, RHO)))
    assert find_periods(path).diverged_at == 35
    broken = [None if k >= 59 else loss for k, loss in enumerate(LOSS)]
    path.write_text(table(["step", "loss", "val_loss", "rho"], zip(N, broken, every(LOSS), RHO)))
    assert find_periods(path).diverged_at is None
    assert find_periods(put(tmp_path, "the Trainer's state")).diverged_at is None
    text = "".join(f"step {k} loss {'nan' if k >= 40 else LOSS[k]}\n" for k in N)
    (tmp_path / "log.txt").write_text(text)
    assert find_periods(tmp_path / "log.txt").diverged_at == 40


def test_epochs_in_place_of_steps(tmp_path):
    path = tmp_path / "keras.csv"
    path.write_text(table(["epoch", "accuracy", "loss", "val_loss", "rho"], zip(N, N, LOSS, LOSS, RHO)))
    read = read_log(path)
    assert (read.counted, read.columns["step"].tolist()) == ("an epoch", N.tolist())
    found = find_periods(path, lr=0.1, wd=0.01)
    assert found.log.clock != "given"  # a rate of a step says nothing of an epoch
    assert found.answer.endswith("a step here is an epoch")
    assert any("give --steps-per-epoch" in sentence for sentence in found.evidence)
    steps = find_periods(path, lr=0.1, wd=0.01, steps_per_epoch=50)
    assert steps.log.step.tolist() == (50 * N).tolist()
    assert steps.unit == pytest.approx(1000, rel=1e-3)
    dicts = "Some weights were not initialised\n" + "".join(
        str({"loss": float(LOSS[k]), "epoch": round(k / 20, 2)}) + "\n" for k in N
    )
    (tmp_path / "trainer.txt").write_text(dicts)
    assert read_log(tmp_path / "trainer.txt").counted == "a row"
    assert read_log(tmp_path / "trainer.txt", steps_per_epoch=20).columns["step"].tolist() == N.tolist()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("step:10/1390 train_loss:3.1 lr:1e-3", {"step": 10, "train_loss": 3.1, "lr": 1e-3}),
        ("Epoch [2/5], Step [100/600], Loss: 0.25", {"Epoch": 2, "Step": 100, "Loss": 0.25}),
        ("Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.1", {"Train Epoch": 1, "Loss": 2.1}),
        ("| step 3 | loss: 1.5 | acc 12% | 3.2 ms |", {"step": 3, "loss": 1.5, "acc": 12}),
        ("[12:01:02] step=4, loss=-1.5e-3 (best)", {"step": 4, "loss": -1.5e-3}),
        ("\x1b[32mINFO\x1b[0m step 5 loss nan", {"step": 5, "loss": float("nan")}),
        ("model v2.1 resnet18 on cuda:0", {}),
        ("INFO:trainer:step=6 loss=np.float64(0.5)", {"step": 6, "loss": 0.5}),
        ("step 7: loss tensor(2.5, device='cuda:0', grad_fn=<NllLossBackward0>)", {"step": 7, "loss": 2.5}),
    ],
)
def test_numbers_with_names_in_a_line(line, found):
    got = dict(pairs(line))
    assert {name: got.get(name) for name in found} == pytest.approx(found, nan_ok=True)
    assert not {"train", "resnet"} & set(got)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("runs.csv", table(['"Step"', '"a - loss"', '"b - loss"'], zip(N, LOSS, LOSS)), "loss of 2 runs; choose one: --columns loss='a - loss'"),
        ("losses.csv", table(["step", "loss_a", "loss_b"], zip(N, LOSS, LOSS)), "which column is the loss? Say it: --columns loss=loss_a"),
        ("words.csv", table(["step", "loss"], [(1, 2), (2, "high")]), "line 3, column loss: 'high' is not a number"),
        ("none.csv", table(["step", "accuracy"], zip(N, LOSS)), "no column that looks like a loss (it has step, accuracy)"),
        ("ragged.csv", "step,loss\n1,2\n2\n", "line 3 has 1 cells, the line of names 2"),
        ("prose.txt", "Call me Ishmael.\nSome years ago\n", "is no log that can be read"),
        ("half.json", '{"log_history": [{"loss": 1', "is not JSON"),
        ("empty.json", "[]", "holds no rows"),
        ("bytes.csv", b"step,loss\n\xff\xfe\xfa\n", "is not text"),
        ("zeros.csv", b"step,loss\n\0\0\0\n", "is not text"),
        ("bad.csv.gz", gzip.compress(b"step,loss\n1,2\n", mtime=0)[:10], "is packed by gzip and damaged"),
        ("flipped.csv.gz", gzip.compress(b"step,loss\n1,2\n", mtime=0)[:-8] + bytes(8), "is packed by gzip and damaged"),
        ("cut.json", '[{"loss": 1.5', "is not JSON"),
        ("model.pt", b"PK\x03\x04", "is a checkpoint"),
        ("state.pkl", b"\x80\x04", "is a pickle"),
        ("events.out.tfevents.1.h", b"nonsense", "is no event file of TensorBoard"),
        ("events.out.tfevents.2.h", VERSION, "holds no scalars"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_clear_line(name, content, words, tmp_path):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        find_periods(path)
    assert words in str(error.value)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_packed_file_has_a_bound(tmp_path, monkeypatch):
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"step,loss\n" + b"1,2\n" * 1_000_000))
    monkeypatch.setattr(source_of, "MOST_BYTES", 1 << 20)
    with pytest.raises(UserError, match="holds more than 1 MiB"):
        read_log(path)


ROWS = [f"{k},{LOSS[k]:.17g},{RHO[k]:.17g}\n" for k in N]
HEAD, WHOLE = "step,loss,rho\n", "step,loss,rho\n" + "".join(ROWS)
LINES = "".join(json.dumps({"step": int(k), "loss": LOSS[k], "rho": RHO[k]}) + "\n" for k in N)
TEXT = "".join(f"step:{k} loss:{LOSS[k]:.17g} rho:{RHO[k]:.17g}\n" for k in N)
QUOTED = "".join(",".join(f'"{cell}"' for cell in row.strip().split(",")) + "\n" for row in WHOLE.splitlines())
AGAIN, CUT, RESUMED = (
    "The line of names comes again in line",
    "is cut short, as a killed run leaves it",
    "was resumed from",
)
#: name of a file that killed and resumed runs leave -> content, what is told
LEFT = {
    "cut.csv": (WHOLE + "60,0.5", CUT),
    "within_number.csv": (WHOLE + "60,0.5,4", CUT),  # of 4.1e-3, may be
    "within_exponent.csv": (WHOLE + "60,0.5,1e", CUT),
    "within_word.csv": (WHOLE + "60,na", CUT),
    "within_quotes.csv": (QUOTED + '"60","0.', CUT),
    "no_end.csv": (QUOTED.rstrip("\n"), ""),  # as W&B's page writes it: the last quote tells that it is whole
    "cut_went_on.csv": (HEAD + "".join(ROWS[:40]) + "40,0.5" + "".join(ROWS[39:]), "Left out as rows with too few or too many cells: line 42"),
    "short.csv": (HEAD + "".join(ROWS[:40]) + "40,0.5\n" + "".join(ROWS[40:]), "Left out as rows with too few or too many cells: line 42"),
    "names_again.csv": (HEAD + "".join(ROWS[:40]) + HEAD + "".join(ROWS[31:]), AGAIN + " 42"),
    "names_after_a_cut.csv": (HEAD + "".join(ROWS[:40]) + "40,0." + HEAD + "".join(ROWS[31:]), RESUMED + " step 31"),
    "another_column.csv": (HEAD + "".join(ROWS[:40]) + "lr,step,loss,rho\n" + "".join("0.1," + row for row in ROWS[31:]), AGAIN + " 42"),
    "another_order.csv": (
        HEAD + "".join(ROWS[:40]) + "rho,loss,step\n" + "".join(",".join(row.strip().split(",")[::-1]) + "\n" for row in ROWS[31:]),
        AGAIN + " 42",
    ),
    "fewer_columns.csv": ("step,loss,rho,lr\n" + "".join(row.strip() + ",0.1\n" for row in ROWS[:40]) + HEAD + "".join(ROWS[40:]), AGAIN + " 42"),
    "two_files.csv": ("\ufeff" + WHOLE + "\ufeff" + WHOLE, AGAIN + " 62"),
    "blank_lines.csv": ("\n\n" + HEAD + "\n".join(ROWS) + "\n\n", ""),
    "commas_at_ends.csv": (HEAD + "".join(row.strip() + ",\n" for row in ROWS), ""),
    "windows.csv": (WHOLE.replace("\n", "\r\n"), ""),
    "old_mac.csv": (WHOLE.replace("\n", "\r"), ""),
    "comment.csv": ("# run 1\n" + HEAD + "".join(ROWS[:40]) + "# resumed\n" + HEAD + "".join(ROWS[40:]), AGAIN + " 43"),
    "zeros_at_end.csv": (WHOLE + "\0" * 512, "Zeros at the end of"),
    "half_a_character.csv": (("step,loss,rho,note\n" + "".join(row.strip() + ",é\n" for row in ROWS)).encode()[:-2], ""),
    "utf16.csv": (WHOLE.encode("utf-16") + "6".encode("utf-16-le")[:1], ""),
    "blanks.txt": (WHOLE.replace(",", " ") + "60 0.5", CUT),
    "cut.jsonl": (LINES + '{"step": 60, "lo', "Left out as no JSON: line 61."),
    "cut_went_on.jsonl": ('{"step": 60, "lo' + LINES + LINES, RESUMED),
    "two_files.jsonl": ("\ufeff" + LINES + "\ufeff" + LINES, RESUMED),
    "windows.jsonl": (LINES.replace("\n", "\r\n"), ""),
    "zeros_at_end.jsonl": (LINES + "\0" * 512, "Zeros at the end of"),
    "cut.txt": (TEXT + "step:60 loss:0", CUT),
    "zeros_at_end.txt": (TEXT + "\0" * 512, "Zeros at the end of"),
    "cut.csv.gz": (gzip.compress(WHOLE.encode())[:-4], "is packed and cut short: what it holds up to there is read."),
    "two_files.csv.gz": (gzip.compress(HEAD.encode() + "".join(ROWS[:40]).encode()) + gzip.compress((HEAD + "".join(ROWS[31:])).encode()), AGAIN),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_killed_and_resumed_runs_leave_is_read(name, tmp_path):
    content, told = LEFT[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    read = read_log(path)
    rows = len(N) - (name == "half_a_character.csv")  # which cannot be told from a row that is cut elsewhere
    assert read.columns["step"].tolist() == N[:rows].tolist()
    assert read.columns["loss"] == pytest.approx(LOSS[:rows], rel=1e-12)
    assert read.columns["rho"] == pytest.approx(RHO[:rows], rel=1e-12)
    said = " ".join(read.said[1:])
    assert told in said
    assert bool(told) or not said or rows < len(N)


def test_a_packed_file_is_read_up_to_where_it_is_cut(tmp_path):
    noise = np.random.default_rng(0).random((30_000, 2))
    path = tmp_path / "log.csv.gz"
    path.write_bytes(
        gzip.compress((HEAD + "".join(f"{k},{a},{b}\n" for k, (a, b) in enumerate(noise))).encode())[:-5000]
    )
    read = read_log(path)
    rows = len(read.columns["step"])
    assert 29_000 < rows < 30_000
    assert np.array_equal(read.columns["loss"], noise[:rows, 0])
    assert "packed and cut short" in " ".join(read.said)


@pytest.mark.parametrize("text", ["loss", "lost=a", "loss=a,loss=b", ""])
def test_columns_that_say_nothing(text):
    with pytest.raises(UserError, match="--columns"):
        asked(text)


def test_a_column_that_is_not_there(tmp_path):
    path = put(tmp_path, "W&B's history")
    with pytest.raises(UserError, match=r"--columns loss=train/los: .* has no column 'train/los' \(it has train/loss"):
        read_log(path, columns="loss=train/los")


def test_periods_are_the_same_in_every_form(tmp_path):
    """One training of known periods, as a table, as lines, as JSON, and thinned out."""
    series = columns(breaking(4000, 0.1, 0.01))
    n = np.arange(4000)
    rows = list(zip(n, series["loss"], series["rho"]))
    (tmp_path / "a.csv").write_text(table(["_step", "train/loss", "weight_norm"], rows))
    (tmp_path / "b.txt").write_text("".join(f"step:{k}/4000 train_loss:{x:.9g} rho:{r:.9g}\n" for k, x, r in rows))
    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps({"step": int(k), "loss": x, "rho": r}) + "\n" for k, x, r in rows)
    )
    (tmp_path / "d.csv").write_text(table(["step", "loss", "rho"], rows[::10]))
    found = [find_periods(path, lr=0.1, wd=0.01) for path in sorted(tmp_path.iterdir())]
    assert {one.verdict for one in found} == {"periodic"}
    assert [one.mean_interval for one in found] == pytest.approx([found[0].mean_interval] * 4, abs=5)
    loss_alone = find_periods(tmp_path / "a.csv", names={"rho": ""}, lr=0.1, wd=0.01)
    assert loss_alone.mean_interval == pytest.approx(found[0].mean_interval, abs=5)
    assert any("log rho, the norm of the scale-invariant weights" in sentence for sentence in loss_alone.evidence)


#: what other tools print, as found in their documentation and issues: the loss of 60 rows in each
PRINTED = {
    "titan.txt": "".join(
        f"[rank0]:[titan] 2025-03-12 11:10:21,511 - root - INFO - \x1b[31mstep: {k:2d}  \x1b[32mloss: {LOSS[k]:8.5f}  \x1b[33mgrad_norm: {RHO[k]:7.4f}  memory:  1.41GiB(1.79%)  tps: 193,831  tflops: 18.36  mfu: 1.86%\x1b[39m\n"
        for k in N
    ),
    "titan4.txt": "".join(
        f"[titan] 2025-03-12 11:10:21,511 - root - INFO - step: {k:2d}  loss: {LOSS[k]:8.5f}  memory: 66.91GiB(37.51%)\n"
        for k in N
        for _ in range(4)
    ),
    "d2.json": "".join(
        json.dumps(
            {"data_time": 0.1, "iteration": int(k), "lr": 0.1, "total_loss": LOSS[k], "loss_cls": 1.0, "loss_box": 2.0}
        )
        + "\n"
        for k in N
    ),
    "mmengine.json": "".join(
        json.dumps(
            {
                "lr": 0.1,
                "data_time": 0.1,
                "loss": LOSS[k],
                "loss_cls": 3.0,
                "time": 0.2,
                "epoch": 1 + int(k) // 20,
                "iter": int(k),
                "memory": 300,
                "step": int(k),
            }
        )
        + "\n"
        for k in N
    ),
    "olmo.txt": "".join(
        f"2024-01-01 00:00:00.000\tnode:0\tolmo.train:800\tINFO\t[step={k}/1000,epoch=0]\n    optim/total_grad_norm=1.3\n    train/CrossEntropyLoss={LOSS[k]:.6f}\n    train/Perplexity=100.1\n"
        for k in N
    ),
    "deepspeed.txt": "".join(
        f"[2023-05-01 10:00:00,123] [INFO] [logging.py:96:log_dist] [Rank 0] step={k}, skipped=0, lr=[0.001, 0.001], mom=[(0.9, 0.95), (0.9, 0.95)]\nsteps: {k} loss: {LOSS[k]:.4f} iter time (s): 0.123 samples/sec: 100.1\n"
        for k in N
    ),
    "timm.txt": "".join(
        f"Train: {k // 20} [{k % 20:>4d}/20 ({k % 20 * 5:>3.0f}%)]  Loss: {LOSS[k]:.4g} (6.91)  Time: 0.312s,  410.31/s  (0.312s,  410.31/s)  LR: 1.000e-01  Data: 0.011 (0.011)\n"
        for k in N
    ),
    "summary.csv": "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n"
    + "".join(f"{k},{LOSS[k]},{LOSS[k]},1.0,2.0,0.1\n" for k in N),
    "tqdm.txt": "\r".join(
        f"Epoch 0:  {k}%|█▏        | {k}/60 [00:01<00:09,  9.80it/s, v_num=3, loss={LOSS[k]:.4f}]" for k in N
    )
    + "\n",
    "hftqdm.txt": "".join(
        f"{{'loss': {LOSS[k]:.4f}, 'grad_norm': 1.2, 'learning_rate': 4.9e-05, 'epoch': {k / 20:.2f}}}\n  1%|▏         | {k}/60 [00:12<33:20,  2.01s/it]\n"
        for k in N
    ),
    "keras.txt": "".join(
        f"Epoch {k + 1}/60\n\x1b[1m100/100\x1b[0m \x1b[32m━━━━\x1b[0m\x1b[37m\x1b[0m \x1b[1m1s\x1b[0m 2ms/step - accuracy: 0.91 - loss: {LOSS[k]:.4f} - val_accuracy: 0.9 - val_loss: 0.33\n"
        for k in N
    ),
    "composer.txt": "".join(
        f"[batch={k}/1000]:\n         Train trainer/device_train_microbatch_size: 8\n         Train loss/train/total: {LOSS[k]:.4f}\n         Train metrics/train/LanguageCrossEntropy: 3.1\n"
        for k in N
    ),
    "kaggle.txt": "".join(f"Epoch: {k} | train_loss: {LOSS[k]:.4f} | val_loss: 1.0 | lr: 0.001\n" for k in N),
    "mlx.txt": "".join(
        f"Iter {k}: Train loss {LOSS[k]:.3f}, Learning Rate 1.000e-05, It/sec 0.5, Tokens/sec 200.1, Trained Tokens {k * 100}, Peak mem 10 GB\n"
        for k in N
    ),
    "torchtune.txt": "".join(
        f"Step {k} | loss:{LOSS[k]} lr:2e-05 tokens_per_second_per_gpu:300.1 grad_norm:1.2\n" for k in N
    ),
    "buildnano.txt": "".join(
        f"step {k:5d} | loss: {LOSS[k]:.6f} | lr 1.0e-04 | norm: 0.3 | dt: 300.1ms | tok/sec: 180000.12\n" for k in N
    ),
    "mlflow_api.json": json.dumps(
        {"metrics": [{"key": "train_loss", "value": LOSS[k], "timestamp": 1, "step": int(k)} for k in N]}
    ),
    "ppo.csv": "rollout/ep_rew_mean,time/total_timesteps,train/loss,train/learning_rate\n"
    + "".join(f"1,{k * 2048},{LOSS[k]},0.0003\n" for k in N),
    "wandbnum.csv": '"Step","lr: 0.1 - loss","lr: 0.1 - loss__MIN","lr: 0.1 - loss__MAX"\n'
    + "".join(f'"{k}","{LOSS[k]}","{LOSS[k]}","{LOSS[k]}"\n' for k in N),
    "two_epochs.csv": "epoch,batch,loss\n" + "".join(f"{k // 20},{k % 20},{LOSS[k]}\n" for k in N),
    "head.csv": "# created by me\n# lr=0.1\nstep,loss\n" + "".join(f"{k},{LOSS[k]}\n" for k in N),
    "space.txt": "step loss rho\n" + "".join(f"{k} {LOSS[k]:.6f} {RHO[k]:.5f}\n" for k in N),
    "index.csv": ",loss,rho\n" + "".join(f"{k},{LOSS[k]},{RHO[k]}\n" for k in N),
    "thousand.csv": "step,loss\n" + "".join(f'"{k * 1000:,}",{LOSS[k]}\n' for k in N),
    "crlf.csv": "step,loss\r\n" + "".join(f"{k},{LOSS[k]}\r\n" for k in N),
    "utf16.csv": ("step,loss\n" + "".join(f"{k},{LOSS[k]}\n" for k in N)).encode("utf-16"),
    "sci.csv": "Steps;Train Loss\n" + "".join(f"{k};{LOSS[k]:.6E}\n" for k in N),
}


@pytest.mark.parametrize("name", PRINTED)
def test_what_other_tools_print(name, tmp_path):
    content = PRINTED[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    read = read_log(path)
    assert read.columns["loss"] == pytest.approx(LOSS, abs=2e-3)
    steps = read.columns["step"]
    assert (np.diff(steps) == steps[1] - steps[0]).all()


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {
        "_step": N,
        "train/loss": pa.array([None if k % 5 == 4 else x for k, x in enumerate(LOSS)]),
        "name": ["a"] * 60,
    }
    pq.write_table(pa.table({**columns, "weight_norm": RHO}), tmp_path / "0000.parquet")
    read = read_log(tmp_path / "0000.parquet")
    assert read.columns["loss"].tolist() == [x for k, x in enumerate(LOSS) if k % 5 != 4]
    assert len(read.columns["rho"]) == 48
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="is no Parquet file"):
        read_log(tmp_path / "bad.parquet")


@pytest.mark.parametrize("seed", range(3))
def test_damaged_logs_are_read_or_refused_in_one_line(seed, tmp_path):
    draw, said = np.random.default_rng(seed), []
    for name, content in FORMS.values():
        data = bytearray(content if isinstance(content, bytes) else content.encode())
        for _ in range(draw.integers(1, 6)):
            at = int(draw.integers(len(data)))
            data[at : at + int(draw.integers(3))] = bytes(draw.integers(0, 256, int(draw.integers(4)), dtype=np.uint8))
        del data[int(draw.integers(len(data) // 2, len(data))) :]
        path = tmp_path / name
        path.write_bytes(bytes(data))
        try:
            said.append(find_periods(path).answer)
        except UserError as error:
            said.append(str(error))
    assert len(said) == len(FORMS)
    assert not any("\n" in words for words in said)


def test_thousands_that_commas_set_apart(tmp_path):
    steps = 500 * np.arange(60)
    path = tmp_path / "log.csv"
    path.write_text(table(["step", "loss", "weight_norm"], zip([f'"{n:,}"' for n in steps.tolist()], LOSS, RHO)))
    log = read_log(path)
    assert np.array_equal(log.columns["step"], steps)
    assert any("between thousands" in line for line in log.said)


def test_a_comment_above_columns_set_apart_by_tabs(tmp_path):
    path = tmp_path / "log.tsv"
    missing = ["nan" if n % 7 == 0 else x for n, x in zip(N, LOSS)]
    path.write_text("# a comment of four words\n" + table(["step", "loss", "weight_norm"], zip(N, missing, RHO), "\t"))
    log = read_log(path)
    assert log.columns["rho"] == pytest.approx(RHO, rel=1e-12)
    assert np.array_equal(np.isnan(log.columns["loss"]), N % 7 == 0)


@pytest.mark.parametrize("half", [b"\xe2\x82", b"\xff\xfe\x00\xd8", b"\xef\xbb\xbf\xe2"])
def test_half_a_character_alone_is_no_text(tmp_path, half):
    (tmp_path / "half.csv").write_bytes(half)
    with pytest.raises(UserError, match="is not text"):
        read_log(tmp_path / "half.csv")
