"""Sweeps through real Ray clusters: one started here, and one of several nodes, one of which dies."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.launch import slurm_cluster, sweeps
from tests.launch.ray_cluster import RayCluster

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.lab.launch.base import Job
from scaleinv.lab.launch.carried import needs, pack, unpack
from scaleinv.lab.launch.choose import LaunchSite, prepare_all
from scaleinv.lab.launch.task import Task
from scaleinv.lab.launch.unit import prepare
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import find_start
from scaleinv.lab.supervised import classification
from scaleinv.lab.train import run
from scaleinv.runfolder.files import read_json
from scaleinv.runfolder.layout import CONFIG, ERROR, RESULT
from scaleinv.studies.own import sweep_config
from scaleinv.studies.sweep import run_folder

ray = pytest.importorskip("scaleinv.lab.launch.ray")
pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("often")]
LONG = 150  # epochs: a second or more a run, of which the third begins when another has ended


@pytest.fixture(scope="module")
def here(often: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("here") / "sweep"
    assert sweeps.within(sweeps.command(out, "--workers", "1", epochs=LONG)) == 0
    return sweeps.bits(out)


def launched(out: Path, arguments: str = "", epochs: int = LONG) -> subprocess.Popen[str]:
    more = ("--launcher", "ray", "--workers", "2", *(("--launcher-args", arguments) if arguments else ()))
    words = sweeps.command(out, *more, epochs=epochs)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(out: Path, process: subprocess.Popen[str], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not any(out.glob("runs/*/checkpoints/step-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no checkpoint"
        time.sleep(0.2)


def test_a_killed_driver_leaves_nothing_and_goes_on(here: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    process = launched(out)
    wait_for_checkpoint(out, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    sweeps.ends(launched(out))
    assert sweeps.bits(out) == here


@pytest.mark.nightly
def test_a_cluster_without_the_nodes_for_it_is_told(tmp_path: Path) -> None:
    """None at first, then one that dies, then another: what is waited for is said, and that it has come."""
    out, epochs = tmp_path / "sweep", 4 * LONG  # it has not ended when the second node has been seen twice
    assert sweeps.within(sweeps.command(tmp_path / "here", "--workers", "1", epochs=epochs)) == 0
    with RayCluster(tmp_path / "cluster") as cluster:
        process = launched(out, f"address={cluster.address}", epochs)
        assert process.stderr is not None
        lacks = "scaleinv: no node of the Ray cluster offers 1 CPU: waiting; it has nodes of 0 CPUs\n"
        again = "scaleinv: Ray can begin the runs again\n"
        assert process.stderr.readline() == lacks
        cluster.add_node()
        assert process.stderr.readline() == again
        wait_for_checkpoint(out, process)
        cluster.kill_node()
        assert process.stderr.readline() == lacks
        cluster.add_node()
        assert sweeps.ends(process)[1] == again
    assert sweeps.bits(out) == sweeps.bits(tmp_path / "here")


@pytest.mark.nightly
def test_a_node_that_does_not_come_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    with RayCluster(tmp_path / "cluster") as cluster:
        arguments = f"address={cluster.address},wait=0.1,gpus=0.25"
        done = sweeps.run(sweeps.command(out, "--launcher", "ray", "--launcher-args", arguments, epochs=1))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "scaleinv: no node of the Ray cluster offers 1 CPU and 0.25 GPU: it has nodes of 0 CPUs; give cpus= or "
        "gpus= in --launcher-args, or add such a node",
    )


@pytest.mark.nightly
def test_a_cluster_of_this_machine_that_is_too_small_is_refused_at_once(tmp_path: Path) -> None:
    more = ("--launcher", "ray", "--workers", "2", "--launcher-args", "cpus=3")
    done = sweeps.run(sweeps.command(tmp_path / "sweep", *more, epochs=1))
    assert (done.returncode, done.stderr) == (
        2,
        "scaleinv: no node of the Ray cluster offers 3 CPUs: it has nodes of 2 CPUs; give cpus= or gpus= in "
        "--launcher-args, or more --workers\n",
    )


def test_a_dead_node_loses_nothing(here: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    with RayCluster(tmp_path / "cluster") as cluster:
        cluster.add_node()
        cluster.add_node()
        process = launched(out, f"address={cluster.address}")
        wait_for_checkpoint(out, process)
        cluster.kill_node()
        cluster.add_node()
        sweeps.ends(process)
        cluster.check()
    assert sweeps.bits(out) == here
    assert sweeps.results(out) == ["finished"] * 3


def test_a_node_that_does_not_share_the_folder_sends_it_back(tmp_path: Path) -> None:
    data = load_data(SETTINGS)
    config = resolve(SETTINGS, data, elr=0.1, lr=None, seed=0, threads=1)
    job = Job(config, tmp_path / "driver" / "run", {})
    prepare(job)
    elsewhere = str(tmp_path / "not-shared" / ray.TOKEN)
    where = (str(job.folder), elsewhere, "token", ray._packed(data))
    assert ray._train(*where, b"", {}) == ray._WHOLE  # it was begun: the node asks for what there is
    brought = ray._train(*where, pack(job.folder), {})
    assert brought is not None
    assert not (job.folder / RESULT).exists()
    unpack(job.folder, brought)
    assert json.loads((job.folder / RESULT).read_text())["status"] == "finished"
    run(config, data, tmp_path / "here")
    weights = "checkpoints/step-000000008/weights.safetensors"
    assert (job.folder / weights).read_bytes() == (tmp_path / "here" / weights).read_bytes()
    assert [path.name for path in job.folder.parent.iterdir()] == ["run"]


@pytest.mark.skipif(slurm_cluster.cannot_hide(), reason="no mount namespaces here: nodes cannot be given another disk")
def test_nodes_with_a_disk_of_their_own(here: dict[str, bytes], tmp_path: Path) -> None:
    """Two nodes, of which neither sees the sweep's folder: each has an empty one in its place."""
    shared = tmp_path / "shared"
    out = shared / "sweep"
    shared.mkdir()
    with RayCluster(tmp_path / "cluster") as cluster:
        cluster.add_node(hidden=shared)
        cluster.add_node(hidden=shared)
        sweeps.ends(launched(out, f"address={cluster.address}"))
        cluster.check()
    assert sweeps.bits(out) == here
    assert not list(out.glob("runs/*/.lock.link"))
    assert not list(out.glob("runs/.*"))  # nothing half-written beside the runs
    assert not list(out.glob(".ray-token*"))
    for folder in out.glob("runs/*"):  # the driver prepared them, and never saw one train
        assert {path.name for path in folder.iterdir()} >= {"config.json", "result.json"}
        assert not (folder / ".lock").exists()


SETTINGS = Settings(subset=64, model="mlp", width=4, steps=8)


def packed(folder: Path, files: object = None) -> bytes:
    return pack(folder, files)  # type: ignore[arg-type]


def test_a_node_elsewhere_has_the_weights_that_a_run_goes_on_from(
    tmp_path: Path,
) -> None:
    data = load_data(SETTINGS)
    run(resolve(SETTINGS, data, elr=0.1, lr=None, seed=0, threads=1), data, tmp_path / "driver" / "first")
    start = find_start(tmp_path / "driver" / "first")
    config = resolve(SETTINGS, data, elr=0.3, lr=None, seed=0, threads=1, start=start.checksum)
    job = Job(config, tmp_path / "driver" / "second", {}, start)
    prepare(job)
    run(config, data, tmp_path / "here", start=start)
    carried, head, before = needs(job, packed), pack(job.folder), read_json(job.folder / CONFIG)
    (tmp_path / "driver").rename(tmp_path / "gone")  # as on a node that does not see it
    brought = ray._train(str(job.folder), str(tmp_path / "no"), "token", ray._packed(data), head, carried)
    unpack(tmp_path / "gone" / "second", brought)
    assert read_json(tmp_path / "gone" / "second" / CONFIG)["environment"] == before["environment"]
    weights = "checkpoints/step-000000008/weights.safetensors"
    assert (tmp_path / "gone" / "second" / weights).read_bytes() == (tmp_path / "here" / weights).read_bytes()


def test_a_node_elsewhere_has_the_data_of_a_problem_of_ones_own(tmp_path: Path) -> None:
    digits = load_data(SETTINGS)
    images = digits.train_images[:64].flatten(1).double() / 16
    problem = classification("tests.launch.sweeps:network", (images.float(), digits.train_labels[:64]))
    sweep = sweep_config(Settings(steps=8, batch_size=16), problem, "elr", [0.1], (0,), "cpu")
    (config,) = sweep.runs()
    out = tmp_path / "driver"
    job = Job(config, run_folder(out, config), {})
    prepare_all([job], LaunchSite(out, problem, 1))
    carried, head = needs(job, packed), pack(job.folder)
    assert set(carried) == {"data"}
    out.rename(tmp_path / "gone")
    brought = ray._train(str(job.folder), str(tmp_path / "no"), "token", None, head, carried)
    unpack(tmp_path / "back", brought)
    assert json.loads((tmp_path / "back" / RESULT).read_text())["status"] == "finished"
    run(config, problem, tmp_path / "here")
    weights = "checkpoints/step-000000008/weights.safetensors"
    assert (tmp_path / "back" / weights).read_bytes() == (tmp_path / "here" / weights).read_bytes()


def test_a_node_elsewhere_does_not_see_what_is_to_be_measured(tmp_path: Path) -> None:
    config = resolve(SETTINGS, load_data(SETTINGS), elr=0.1, lr=None, seed=0, threads=1)
    job = Job(config, tmp_path / "driver" / "task", {}, task=Task("json:dumps", {"obj": 1}))
    prepare(job)
    brought = ray._train(str(job.folder), str(tmp_path / "no" / "token"), "token", None, pack(job.folder), {})
    unpack(tmp_path / "back", brought)
    assert f"does not see {tmp_path / 'no'}, which this needs" in (tmp_path / "back" / ERROR).read_text()


class Fake:
    """What the launcher asks of Ray, kept."""

    def __init__(self) -> None:
        self.asked: list[dict[str, float]] = []

    def __getattr__(self, name: str) -> object:
        return lambda *_, **__: None

    def is_initialized(self) -> bool:
        return True

    def remote(self, **_: object) -> object:
        return lambda function: self

    def options(self, **resources: float) -> Fake:
        self.asked.append(resources)
        return SimpleNamespace(remote=lambda *_: None)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("device", "arguments", "resources"),
    [
        ("cpu", {}, {"num_cpus": 3, "num_gpus": 0.0}),
        ("cuda", {}, {"num_cpus": 3, "num_gpus": 1.0}),
        ("cuda", {"gpus": 0.25, "cpus": 0.5}, {"num_cpus": 0.5, "num_gpus": 0.25}),
        ("cpu", {"gpus": 1}, {"num_cpus": 3, "num_gpus": 1}),
    ],
)
def test_a_run_asks_for_its_share_of_a_gpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    arguments: dict[str, float],
    resources: dict[str, float],
) -> None:
    fake = Fake()
    monkeypatch.setitem(sys.modules, "ray", fake)  # type: ignore[arg-type]
    config = resolve(SETTINGS, load_data(SETTINGS), elr=0.1, lr=None, seed=0, threads=3, device=device)
    job = Job(config, tmp_path / "run", {})
    launcher = ray.Ray(tmp_path, lambda jobs: [prepare(one) for one in jobs], **arguments)
    launcher.prepare([job])
    launcher._token, launcher._token_file, launcher._data = "", tmp_path / "token", None
    launcher.submit([job])
    assert fake.asked == [resources]


class Joined(Fake):
    """A Ray that keeps what it was started with."""

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: object) -> None:
        self.options = options


@pytest.mark.parametrize(
    ("named", "address", "joined"),
    [(None, None, "local"), ("ray://head:1", None, "ray://head:1"), ("ray://head:1", "auto", "auto")],
)
def test_a_cluster_is_joined_where_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, address: str | None, joined: str
) -> None:
    """Else one is started, also beside another one of this machine, which Ray would join."""
    monkeypatch.setitem(sys.modules, "ray", fake := Joined())  # type: ignore[arg-type]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if named:
        monkeypatch.setenv("RAY_ADDRESS", named)
    ray.Ray(tmp_path, lambda jobs: None, workers=3, address=address)
    own = {"num_cpus": 3} if joined == "local" else {}
    expected = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    assert fake.options == {"address": joined, **own, **expected}


def test_a_cluster_of_ours_that_is_too_small_has_nothing_to_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Joined()
    fake.nodes = lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", fake)  # type: ignore[arg-type]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = resolve(SETTINGS, load_data(SETTINGS), elr=0.1, lr=None, seed=0, threads=1)
    job = Job(config, tmp_path / "run", {})
    with pytest.raises(UserError) as caught:
        next(ray.Ray(tmp_path, lambda jobs: None, workers=2, cpus=3).run([job]))
    assert str(caught.value) == (
        "no node of the Ray cluster offers 3 CPUs: it has nodes of 2 CPUs; give cpus= or gpus= in "
        "--launcher-args, or more --workers"
    )
    assert ray.Ray(tmp_path, lambda jobs: None, address="auto", cpus=3).why_waiting([job]) == (
        "no node of the Ray cluster offers 3 CPUs: waiting; it has nodes of 2 CPUs"
    )


class Slow(Fake):
    """A Ray whose parts do not start in time, so many times."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def is_initialized(self) -> bool:
        return False

    def init(self, **_: object) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise Exception("The current node timed out during startup.\nand so on")


def test_a_cluster_of_this_machine_that_does_not_start_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", Slow(2))  # type: ignore[arg-type]
    ray.Ray(tmp_path, lambda jobs: None)
    monkeypatch.setitem(sys.modules, "ray", Slow(3))  # type: ignore[arg-type]
    with pytest.raises(UserError) as caught:
        ray.Ray(tmp_path, lambda jobs: None)
    words = "The current node timed out during startup."
    assert str(caught.value) == f"Ray does not start on this machine: {words}; try again, or use another --launcher"


def test_an_address_that_nobody_answers(tmp_path: Path) -> None:
    done = sweeps.run(
        sweeps.command(tmp_path / "s", "--launcher", "ray", "--launcher-args", "address=127.0.0.1:1", epochs=1),
        RAY_gcs_server_request_timeout_seconds="2",
    )
    assert done.returncode == 2, done.stderr
    assert "no Ray cluster answers at 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.path.exists(tmp_path / "s") is False or not list((tmp_path / "s").glob("runs/*/checkpoints"))
