"""Two processes of four devices each give what one device gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import test_devices
from helpers.recordings import small_reach

from stndt_jax.errors import UserError
from stndt_jax.parallel import multihost
from stndt_jax.runs import log

ROOT = Path(__file__).resolve().parents[1]
EXPLICIT = {"STNDT_COORDINATOR": "a:1", "STNDT_PROCESSES": "2", "STNDT_PROCESS": "1"}
STEP = {"SLURM_STEP_NODELIST": "node[1-2]", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        (EXPLICIT, {"coordinator_address": "a:1", "num_processes": 2, "process_id": 1}),
        (EXPLICIT | {"STNDT_PROCESSES": "1", "STNDT_PROCESS": "0"}, None),
        # What is said outright counts more than what is found.
        (EXPLICIT | STEP, {"coordinator_address": "a:1", "num_processes": 2, "process_id": 1}),
        (STEP, {"num_processes": 2}),
        (STEP | {"SLURM_STEP_NUM_TASKS": "1"}, None),
        # A batch script without srun.
        ({"SLURM_NTASKS": "4", "SLURM_JOB_ID": "3", "SLURM_PROCID": "0"}, None),
        (STEP | {"STNDT_HOSTS": "one"}, None),
        ({"STNDT_HOSTS": "auto"}, {}),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1"}, {}),
        ({"TPU_WORKER_HOSTNAMES": "t0"}, None),
    ],
)
def test_how_processes_meet(environment: dict[str, str], found: Any) -> None:
    assert multihost.connection(environment) == found


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"STNDT_PROCESS": ""}, "STNDT_PROCESS is missing, but STNDT_COORDINATOR is set"),
        ({"STNDT_PROCESS": "2"}, "STNDT_PROCESS is 2 and STNDT_PROCESSES is 2"),
        ({"STNDT_PROCESSES": "two"}, "STNDT_PROCESSES is two"),
        ({"STNDT_COORDINATOR": "node1"}, "STNDT_COORDINATOR is node1; give host:port"),
    ],
)
def test_a_wrong_environment(changed: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        multihost.connection(EXPLICIT | changed)
    with pytest.raises(UserError, match="STNDT_HOSTS is two"):
        multihost.connection({"STNDT_HOSTS": "two"})


def test_one_process_decides_for_itself() -> None:
    np.testing.assert_array_equal(multihost.gathered([3, 1]), [[3, 1]])
    assert multihost.first()
    with pytest.raises(UserError, match="mine"), multihost.together():
        raise UserError("mine")


def environment(devices: int) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}


def launched(*command: object) -> list[str]:
    return ["bash", str(ROOT / "launch" / "local_multiprocess.sh"), "2", *map(str, command)]


@pytest.mark.long
def test_gradients_of_two_processes_are_those_of_one_device(tmp_path: Path) -> None:
    grids = ["1", "2", "4", "8"]
    done = subprocess.run(
        launched(sys.executable, ROOT / "tests" / "helpers" / "two_processes.py", tmp_path, *grids),
        env=environment(4),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = test_devices.on_one_device()
    for grid in grids:
        with np.load(tmp_path / f"{grid}.npz") as file:
            assert int(file["processes"]) == 2
            leaves = [file[f"leaf_{i}"] for i in range(len(jax.tree.leaves(wanted)))]
        test_devices.compare(jax.tree.unflatten(jax.tree.structure(wanted), leaves), wanted)


@pytest.mark.long
def test_a_run_of_two_processes_is_that_of_one(tmp_path: Path) -> None:
    """Stopped on the way, and gone on with."""
    files = small_reach(tmp_path)
    settings = [
        "--config=tiny",
        f"--config.data.path={files / 'reach.h5'}",
        f"--config.data.targets={files / 'reach_target.h5'}",
        "--config.model.layers=1",
        "--config.population=4",
        "--config.parallel.data=2",
        "--config.parallel.devices=0",
        "--config.contrast.enabled=false",
        "--config.train.epochs=160",
        "--config.train.validate_every=40",
    ]
    train = [sys.executable, "-m", "stndt_jax", "train", *settings]
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    one = [*train, f"--workdir={alone}", "--config.parallel.devices=1", "--config.parallel.data=1"]
    cache = tmp_path / "cache"
    one += [f"--compile-cache={cache}"]
    done = subprocess.run(one, env=environment(1), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert any("chunk" in kept.name for kept in cache.rglob("*"))
    command = launched(*train, f"--workdir={spread}")
    with subprocess.Popen(command, env=environment(4), cwd=ROOT, stderr=subprocess.PIPE) as running:
        metrics = spread / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not (metrics.exists() and log.read_metrics(metrics)):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        running.send_signal(signal.SIGTERM)
        assert running.wait() == 143
    done = subprocess.run(command, env=environment(4), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("next: stndt evaluate") == 1
    said = (spread / "log.txt").read_text()
    assert "on 8 devices, 4 for members x 2 for the trials of a batch, of 2 processes" in said
    assert "continuing from the checkpoint" in said
    assert len(json.loads((spread / "run.json").read_text())["sessions"]) == 2
    rows = [log.read_metrics(path / "metrics.jsonl") for path in (alone, spread)]
    assert [row["epoch"] for row in rows[1]] == [row["epoch"] for row in rows[0]]
    for name in ("train_loss", "valid_masked_loss", "valid_unmasked_loss"):
        np.testing.assert_allclose(rows[0][0][name], rows[1][0][name], rtol=1e-5)
        np.testing.assert_allclose(rows[0][-1][name], rows[1][-1][name], rtol=1e-3)
