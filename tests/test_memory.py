"""The memory of a population, and how many members it leaves room for."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.recordings import small_reach
from stndt_jax.configs import tiny

from stndt_jax.cli import main
from stndt_jax.config import schema
from stndt_jax.errors import UserError
from stndt_jax.runs import directory, log
from stndt_jax.training import memory, restore, step
from stndt_jax.types import Dims

DIMS = Dims(6, 2, 4, 2)


@functools.cache
def setting() -> tuple[schema.Config, step.Batch]:
    plain = tiny.get_config().to_dict()
    plain["model"] |= {"layers": 1}
    plain["contrast"] |= {"enabled": False}
    plain["parallel"] |= {"devices": 1}
    counts = np.random.default_rng(0).poisson(0.5, (32, DIMS.bins, DIMS.neurons))
    batch = step.Batch(jnp.asarray(counts, jnp.uint8), jnp.ones(counts.shape, bool))
    return schema.from_mapping(plain), batch


def test_members_are_spread_over_the_cores_that_memory_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, _ = setting()

    def pages(number: float) -> None:
        sizes = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": number}
        monkeypatch.setattr(memory.os, "sysconf", sizes.__getitem__)

    pages(2**30)
    assert memory.cpu_devices(whole, DIMS, 8) == jax.device_count() == 8
    # By hand, one layer of two heads: 8 trials of 8 bins and as many factors as neurons, 6.
    floats = 8 * (16 * 8 * 6 + 3 * whole.model.heads * (64 + 36))
    pages(3.1 * 4 * floats / memory.USED)
    assert memory.cpu_devices(whole, DIMS, 8) == 3
    pages(0)
    assert memory.cpu_devices(whole, DIMS, 8) == 1
    shared = dataclasses.replace(whole, parallel=dataclasses.replace(whole.parallel, data=2))
    assert memory.cpu_devices(shared, DIMS, 8) == 2


@pytest.mark.long
def test_as_many_members_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is predicted from two members and three is what six take."""
    whole, batch = setting()
    one, two, three, six = (memory.needed(whole, DIMS, batch, batch, K) for K in (1, 2, 3, 6))
    each = three - two
    assert each > 0
    assert six == pytest.approx(two + 4 * each, rel=0.05)

    def found(free: int, **changes: Any) -> int:
        parts = dataclasses.replace(whole.parallel, **changes)
        return memory.members(dataclasses.replace(whole, parallel=parts), DIMS, batch, batch, free)

    sizes = {1: one, 2: two, 3: three}
    monkeypatch.setattr(memory, "needed", lambda *given: sizes[given[-1]])
    assert [found(free) for free in (one, two - 1, two, two + 4 * each)] == [1, 1, 2, 6]
    assert found(two, devices=4) == 8
    assert found(two, devices=4, data=2) == 4
    assert found(two, devices=4, data=2, engine="pmap") == 2
    assert found(10**15) == memory.MOST
    with pytest.raises(UserError, match=r"one member needs .* GiB and .* are free; lower"):
        found(one - 1)


def test_members_with_values_of_their_own() -> None:
    whole, batch = setting()
    own = dataclasses.replace(whole, members={"dropout": (0.1,)})
    with pytest.raises(UserError, match=r"config.members.dropout lists them"):
        memory.members(own, DIMS, batch, batch)


def test_free_memory() -> None:
    assert 2**20 < memory.available() * jax.local_device_count() < 2**50


@pytest.mark.long
def test_the_command_fills_the_memory_and_keeps_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, run = small_reach(tmp_path), tmp_path / "run"
    monkeypatch.setattr(memory, "members", lambda *_: 3)
    command = [
        "train", "--config=tiny", f"--config.data.path={files / 'reach.h5'}",
        f"--config.data.targets={files / 'reach_target.h5'}", f"--workdir={run}",
        "--population=auto", "--config.model.layers=1", "--config.contrast.enabled=false",
        "--config.train.epochs=2", "--config.train.validate_every=1",
    ]  # fmt: skip
    assert main.main(command) == 0
    assert directory.read_config(run).population == 3
    monkeypatch.setattr(memory, "members", lambda *_: 5)
    assert main.main([*command, "--config.train.epochs=3", "--extend"]) == 0
    rows = log.read_metrics(run / "metrics.jsonl")
    assert [len(row["train_loss"]) for row in rows] == [3, 3, 3]
    assert len(restore.load(run).usable) == 3
