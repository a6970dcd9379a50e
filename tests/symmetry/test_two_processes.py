"""A model that two processes hold together gets the answer of the model itself, however it is wrapped or sharded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.gloo import two_processes
from tests.symmetry.sharded_worker import KEYS, WAYS
from torch import distributed

pytestmark = [
    pytest.mark.skipif(not distributed.is_available(), reason="torch is built without distributed"),
    pytest.mark.slow,
]

WORKER = Path(__file__).with_name("sharded_worker.py")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both processes were told, by the way the model is wrapped."""
    pytest.importorskip("torch.distributed.fsdp", reason="torch is built without FSDP")
    folder = tmp_path_factory.mktemp("sharded")
    two_processes(WORKER, folder)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def _bare(answer: Any) -> Any:
    """An answer without what ``DistributedDataParallel`` and ``torch.compile`` put in front of every name."""
    return json.loads(json.dumps(answer).replace("_orig_mod.", "").replace("module.", ""))


@pytest.mark.parametrize("way", WAYS)
def test_the_answer_is_that_of_the_model_itself(told: list[dict[str, Any]], way: str) -> None:
    for one in told:
        answer, expected = _bare(one[way]), one["plain"]
        assert answer.get("refused") is None
        assert answer["verdict"] == expected["verdict"] == "clear"
        assert {key: answer[key] for key in KEYS} == {key: expected[key] for key in KEYS}
        assert answer["untouched"]
        assert answer.get("runs", True)
        if way == "fsdp, flat":
            assert "use_orig_params=True" in answer["groups"]
        else:
            assert answer["groups"] == expected["groups"]
