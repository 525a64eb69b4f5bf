"""Searches on a real Ray cluster, parts of which die; without Ray they are skipped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.recordings import small_reach

from stndt_jax.errors import UserError
from stndt_jax.search import executor, worker

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install -e '.[ray]')")

TRIALS, EPOCHS = 4, 200


def _command(folder: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "stndt_jax", "search", "--config=tiny", "--quiet"),
        f"--config.data.path={folder / 'reach.h5'}",
        f"--config.data.targets={folder / 'reach_target.h5'}",
        *("--config.contrast.enabled=false", "--config.model.layers=1"),
        *("--config.model.feedforward=8", f"--config.train.epochs={EPOCHS}"),
        *("--config.train.save_every_s=1", "--population=2", f"--trials={TRIALS}"),
        *("--executor=ray", "--workers=2", f"--workdir={folder / 'search'}"),
        *more,
    ]


@contextmanager
def _driver(folder: Path, *more: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A search, ended with the block; its output goes to the file ``log``."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            _command(folder, *more),
            env=os.environ | cache | environment,
            stdout=log,
            stderr=log,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _in_training(folder: Path, process: subprocess.Popen[str], count: int) -> list[Path]:
    """The runs that actors train and that have a checkpoint, once there are so many."""
    end = time.monotonic() + 400
    while time.monotonic() < end and process.poll() is None:
        found = [
            run
            for run in sorted(folder.glob("search/trials/*"))
            if (run / "lock").exists() and any(run.glob("checkpoints/[0-9]*.sha256"))
        ]
        if len(found) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError((folder / "log").read_text())


def _pid(run: Path) -> int:
    return int(json.loads((run / "lock").read_text())["pid"])


def _check(folder: Path) -> None:
    """Every trial once, with the score of its run; every epoch once in every run."""
    found = json.loads((folder / "search" / "search.json").read_text())["trials"]
    assert [t["state"] for t in found] == ["complete"] * TRIALS
    scores = {(t["run"], t["member"]): t["value"] for t in found}
    assert len(scores) == TRIALS
    numbers = list[int]()
    for run in sorted(folder.glob("search/trials/*")):
        numbers += worker.read_population(run)[0]
        for k, own in enumerate(worker.scores(run)):
            assert scores[f"trials/{run.name}", k] == own
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        epochs = [row["epoch"] for row in rows]
        assert epochs == sorted(set(epochs)) and epochs[-1] == EPOCHS
    assert sorted(numbers) == [t["number"] for t in found]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A cluster of two nodes with one processor each, on this machine."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.second = made.add_node(num_cpus=1)
    try:
        yield made
    finally:
        made.shutdown()


@pytest.mark.long
def test_an_actor_is_killed_and_temporary_files_have_a_long_name(tmp_path: Path) -> None:
    """On a cluster of the search's own; the sockets of Ray may have names of 107 bytes."""
    folder = small_reach(tmp_path)
    temporary = tmp_path / ("long" * 20)
    temporary.mkdir()
    with _driver(folder, TMPDIR=str(temporary)) as process:
        victim = _in_training(folder, process, 2)[0]
        os.kill(_pid(victim), signal.SIGKILL)
        assert process.wait(timeout=540) == 0, (folder / "log").read_text()
    assert "another resumes it" in (folder / "log").read_text()
    _check(folder)


@pytest.mark.long
def test_a_node_goes_and_the_driver_is_killed(tmp_path: Path, cluster: Any) -> None:
    """On a running cluster: first one of two nodes goes, then the driver; the next one finishes."""
    folder = small_reach(tmp_path)
    address = f"--ray-address={cluster.address}"
    with _driver(folder, address) as process:
        _in_training(folder, process, 2)
        cluster.remove_node(cluster.second, allow_graceful=False)
        end = time.monotonic() + 120
        while "another resumes it" not in (folder / "log").read_text():
            assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
    # The node is back when the search is started again.
    cluster.add_node(num_cpus=1)
    with _driver(folder, address) as process:
        assert process.wait(timeout=540) == 0, (folder / "log").read_text()
    _check(folder)


@pytest.mark.long
def test_a_cluster_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stndt_jax.search import ray_executor

    with (
        pytest.raises(UserError, match=r"--workers=9, but the cluster has 0 GPUs and 2 processors"),
        ray_executor.pool(cluster.address, 9),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"--ray-address=127.0.0.1:1 cannot be used"),
        ray_executor.pool("127.0.0.1:1", 1),
    ):
        pass  # Nobody listens there.

    class Broken(ray_executor._Trainer):
        def __init__(self) -> None:
            raise ImportError("no module named stndt_jax")

    monkeypatch.setattr(ray_executor, "_Trainer", Broken)
    with (
        pytest.raises(UserError, match=r"3 workers .* died before .*no module named stndt_jax"),
        ray_executor.pool(cluster.address, 1) as pool,
    ):
        for _ in range(600):
            assert not pool.free()
            time.sleep(0.1)
    assert executor.MOST_DEATHS == 3
