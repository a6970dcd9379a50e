"""Every device: nothing is made where torch happens to make it, and the same run on every device there is."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lab import own
from tests.lab.explicit import NAMES, SOURCE, ExplicitDevices

import scaleinv as si
from scaleinv.cli import run as command
from scaleinv.errors import UserError
from scaleinv.lab.config import Settings, read_config
from scaleinv.lab.data import load_dataset
from scaleinv.lab.devices import choose_device
from scaleinv.lab.resolve import resolve
from scaleinv.lab.train import run
from scaleinv.landscape.runs import surface_of
from scaleinv.landscape.sharpness import sharpness
from scaleinv.papers.context import Context
from scaleinv.papers.shelf import select
from scaleinv.studies.landscape import Study, study
from scaleinv.studies.obtain import Request, obtain_many
from scaleinv.studies.sweep import SweepConfig, run_sweep

DEVICES = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]


def test_the_mode_sees_a_tensor_of_the_package_without_a_device() -> None:
    """It would see one, and only ours."""
    code = compile("import torch\nmade = torch.zeros(3)", f"{SOURCE}/lab/sloppy.py", "exec")
    with ExplicitDevices(), pytest.raises(AssertionError, match=r"zeros without a device at .*sloppy.py:2"):
        exec(code, {})
    with ExplicitDevices():
        torch.zeros(3)
        exec(compile("import torch\nmade = torch.zeros(3, device='cpu')", f"{SOURCE}/lab/sloppy.py", "exec"), {})


def test_every_tensor_of_the_package_names_its_device() -> None:
    """Where no test of this file passes, too."""
    silent = []
    for file in Path(SOURCE).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in NAMES:
                of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
                if of_torch and not any(keyword.arg in ("device", None) for keyword in node.keywords):
                    silent.append(f"{file}:{node.lineno}")
    assert silent == []


@pytest.mark.parametrize(
    "options",
    [
        {"elr": 0.1, "augment": True, "schedule": "cosine"},
        {"elr": 10.0, "granularity": "row", "momentum": 0.9, "gradient": "accumulate"},
        {
            "lr": 0.1,
            "optimizer": "adamw",
            "weight_decay": 0.1,
            "variant": "standard",
            "loss": "mse",
            "label_noise": 0.1,
        },
    ],
)
def test_a_run_of_the_package_names_every_device(tmp_path: Path, options: dict[str, Any]) -> None:
    said = {name: value for name, value in options.items() if name not in ("elr", "lr")}
    with ExplicitDevices():
        data = load_dataset("digits", subset=64, label_noise=said.get("label_noise", 0.0))
        config = resolve(
            Settings(subset=64, epochs=3, width=4, **said),
            data,
            elr=options.get("elr"),
            lr=options.get("lr"),
            seed=0,
            threads=1,
        )
        assert run(config, data, tmp_path / "run")["status"] == "finished"


@pytest.mark.parametrize("name", ["problem", "jittered", "regression", "language"])
def test_a_run_of_ones_own_names_every_device(tmp_path: Path, name: str) -> None:
    with ExplicitDevices():
        problem = getattr(own, name)()
        config = resolve(Settings(epochs=2), problem, elr=100.0, lr=None, seed=0, threads=1)
        assert run(config, problem, tmp_path / "run")["status"] == "finished"


def test_the_landscape_names_every_device(tmp_path: Path) -> None:
    quick = Study(images=32, probes=2, points=3, walk_steps=4, walk_seeds=1)
    common = {"model": "mlp", "subset": 64, "batch_size": 16, "epochs": 4, "width": 4, "keep_every": 1}
    with ExplicitDevices():
        data = load_dataset("digits", subset=64)
        base = resolve(Settings(**common), data, elr=0.1, lr=None, seed=0, threads=1)
        run_sweep(SweepConfig(base, "elr", (0.1, 1.0), (0,)), data, tmp_path / "sweep", workers=1)
        measured = study(tmp_path / "sweep", ("sharpness", "paths", "walks", "averages"), settings=quick)
        assert {part: len(measured[part]) for part in ("sharpness", "paths", "walks", "averages")} == {
            "sharpness": 2,
            "paths": 1,
            "walks": 1,
            "averages": 2,
        }
        for fisher in ("empirical", "gauss-newton"):
            surface = surface_of(next((tmp_path / "sweep" / "runs").iterdir()))
            assert sharpness(surface, top=1, probes=1, images=32, fisher=fisher).hessian.converged


def test_runs_that_claims_and_figures_obtain_name_every_device(tmp_path: Path) -> None:
    with ExplicitDevices():
        context = Context("digits", tmp_path)
        (found,) = context.runs([Request(settings=Settings(model="mlp", subset=64, epochs=1, width=4), elr=0.1)])
    assert found.result is not None
    assert found.result["status"] == "finished"


@pytest.mark.parametrize("id", ["edge-of-stability-toy", "jump-size", "neutral-centre", "phi-dynamics"])
def test_a_claim_names_every_device(id: str, tmp_path: Path) -> None:
    ((claim, scale),) = select("toy", (id,))
    with ExplicitDevices():
        assert claim.run(Context(scale, tmp_path)).verdict == "holds"


def test_the_doctor_names_every_device(capsys: pytest.CaptureFixture[str]) -> None:
    with ExplicitDevices():
        assert command(["doctor", "torch.nn:Identity", "--input", "4,6"]) in (0, 2, 3)
        assert command(["doctor", f"{Path(own.__file__)}:make_net", "--input", "8,2,12", "--optimizer", "sgd"]) in (
            0,
            3,
        )
    capsys.readouterr()


@pytest.mark.parametrize("device", DEVICES)
def test_obtained_runs_are_those_of_their_device(tmp_path: Path, device: str) -> None:
    request = Request(settings=Settings(model="mlp", subset=64, epochs=1, width=4), elr=0.1)
    (folder,) = obtain_many(tmp_path, [request], device=device)
    config = read_config(folder)
    assert config is not None
    assert config.device == device
    measured = study(
        folder, ("sharpness",), settings=Study(images=32, probes=1), device=device if device != "mps" else "cpu"
    )
    on_cpu = surface_of(folder)
    assert measured["sharpness"][0]["loss"] == pytest.approx(
        sharpness(on_cpu, top=1, probes=1, images=32).gradients.loss
    )


@pytest.mark.parametrize(
    "words",
    [
        "train --elr 1 --out made",
        "sweep --elr 1,2 --out made",
        "landscape made",
        "verify --only jump-size --cache made",
        "reproduce fig8-left --out made --runs made",
        "doctor torch.nn:Identity --input 4,6 --html made",
    ],
)
def test_a_device_that_is_not_there_is_told_in_one_line(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command([*words.split(), "--device", "cuda:77"]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert "device 'cuda:77' is not there" in error
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["problem", "jittered", "regression", "language"])
def test_a_run_on_every_device_goes_on_bit_for_bit(tmp_path: Path, device: str, name: str) -> None:
    make = getattr(own, name)
    config = resolve(Settings(epochs=2), make(), elr=0.1, lr=None, seed=0, threads=1, device=device)
    assert config.device == device
    results = []
    for folder in ("a", "b"):
        run(config, make(), tmp_path / folder)
        results.append(si.load(tmp_path / folder).series("online", "total", "loss")[1].tolist())
    assert results[0] == results[1]
    on_cpu = resolve(Settings(epochs=2), make(), elr=0.1, lr=None, seed=0, threads=1)
    run(on_cpu, make(), tmp_path / "cpu")
    there = si.load(tmp_path / "cpu").series("online", "total", "loss")[1].tolist()
    assert results[0] == pytest.approx(there, rel=1e-3)
    assert (config.identity() == on_cpu.identity()) == (device == "cpu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu", "is not understood"),
        ("cuda:123", "is not there"),
        ("meta", "nothing is trained there"),
        ("cpu:x", "not understood"),
    ],
)
def test_devices_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_device(text)


def test_auto_is_a_gpu_where_there_is_one() -> None:
    assert choose_device("auto") == DEVICES[-1] if len(DEVICES) < 3 else "cuda"


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_loop_with_sphere_and_monitor_names_every_device(tmp_path: Path, optimizer: Any) -> None:
    x, y = (torch.as_tensor(part) for part in own.arrays())
    net = own.make_net()
    with ExplicitDevices():
        groups = si.find_symmetries(net, x[:8].float()).parameters(net)
        sphere = si.Sphere(optimizer(net.parameters(), lr=0.1), groups, 1e-2)
        monitor = si.Monitor(net, sphere, groups=groups, sinks=str(tmp_path / "watched"), every=1)
        for _ in range(3):
            sphere.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(x.float()), y)
            loss.backward()
            monitor.loss(loss)
            sphere.step()
        monitor.close()
    assert si.load(tmp_path / "watched").metrics
