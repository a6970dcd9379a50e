"""Sweeps through real Ray clusters: one started here, and one of several nodes, one of which dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.launch import sweeps

from scaleinv.runfolder.layout import RESULT

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
LONG = 400  # epochs: some seconds a run


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("here") / "sweep"
    assert sweeps.run(sweeps.command(out, epochs=LONG)).returncode == 0
    return sweeps.bits(out)


def launched(out: Path, arguments: str = "") -> subprocess.Popen[str]:
    more = ("--launcher", "ray", "--workers", "2", *(("--launcher-args", arguments) if arguments else ()))
    words = sweeps.command(out, *more, epochs=LONG)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(out: Path, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not any(out.glob("runs/*/checkpoints/step-*")):
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_killed_driver_leaves_nothing_and_goes_on(here: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    process = launched(out)
    wait_for_checkpoint(out)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = launched(out)
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    assert sweeps.bits(out) == here


CLUSTER = """
import json, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster

out, told = Path(sys.argv[1]), Path(sys.argv[2])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
cluster.wait_for_nodes()
told.write_text(cluster.address)
while not any(out.glob("runs/*/checkpoints/step-*")):
    time.sleep(0.1)
cluster.remove_node(nodes[0], allow_graceful=False)
cluster.add_node(num_cpus=1)
while not (told.parent / "over").exists():
    time.sleep(0.2)
cluster.shutdown()
"""


def test_a_dead_node_loses_nothing(here: dict[str, bytes], tmp_path: Path) -> None:
    out, told = tmp_path / "sweep", tmp_path / "address"
    script = tmp_path / "nodes.py"
    script.write_text(CLUSTER)
    nodes = subprocess.Popen([sys.executable, str(script), str(out), str(told)], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not told.exists() or not told.read_text():
            assert time.monotonic() < end
            assert nodes.poll() is None
            time.sleep(0.2)
        process = launched(out, f"address={told.read_text()}")
        _, errors = process.communicate(timeout=500)
        assert process.returncode == 0, errors
        assert sweeps.bits(out) == here
        assert sweeps.results(out) == ["finished"] * 3
    finally:
        (tmp_path / "over").write_text("")
        nodes.wait(timeout=60)


def test_a_node_that_does_not_share_the_folder_sends_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scaleinv.lab.config import Settings
    from scaleinv.lab.launch import ray
    from scaleinv.lab.launch.base import Job
    from scaleinv.lab.launch.unit import prepare
    from scaleinv.lab.resolve import load_data, resolve
    from scaleinv.lab.train import run

    settings = Settings(subset=64, model="mlp", width=4, steps=8)
    data = load_data(settings)
    config = resolve(settings, data, elr=0.1, lr=None, seed=0, threads=1)
    job = Job(config, tmp_path / "driver" / "run", {})
    prepare(job)
    elsewhere = str(tmp_path / "not-shared" / ray.TOKEN)
    brought = ray._train(str(job.folder), elsewhere, "token", ray._packed(data), ray._read_tree(job.folder))
    assert brought is not None
    assert not (job.folder / RESULT).exists()
    ray._write_tree(job.folder, brought)
    assert json.loads((job.folder / RESULT).read_text())["status"] == "finished"
    run(config, data, tmp_path / "here")
    weights = "checkpoints/step-000000008/weights.safetensors"
    assert (job.folder / weights).read_bytes() == (tmp_path / "here" / weights).read_bytes()
    assert [path.name for path in job.folder.parent.iterdir()] == ["run"]


def test_an_address_that_nobody_answers(tmp_path: Path) -> None:
    done = sweeps.run(
        sweeps.command(tmp_path / "s", "--launcher", "ray", "--launcher-args", "address=127.0.0.1:1", epochs=1),
        RAY_gcs_server_request_timeout_seconds="2",
    )
    assert done.returncode == 2, done.stderr
    assert "no Ray cluster answers at 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.path.exists(tmp_path / "s") is False or not list((tmp_path / "s").glob("runs/*/checkpoints"))
