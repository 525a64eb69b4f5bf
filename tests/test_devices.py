"""Eight virtual devices give what one gives."""

from __future__ import annotations

import dataclasses
import functools
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_models
from helpers.recordings import small_reach
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from stndt_jax.configs import default

from stndt_jax.config import loading, schema
from stndt_jax.errors import Interrupted, UserError
from stndt_jax.parallel import lifts, multihost, pmap
from stndt_jax.runs import log, recording
from stndt_jax.training import batches, loop, population, step
from stndt_jax.types import Dims

DIMS = Dims(bins_observed=6, bins_forward=2, heldin=4, heldout=2)
MEMBERS, BATCH = 8, 8


def _config(layer: str = "embedder", factors: bool = False) -> schema.Config:
    plain = default.get_config().to_dict()
    plain["population"] = MEMBERS
    plain["model"] |= {"layers": 1, "heads": 2, "feedforward": 8}
    plain["model"] |= dict.fromkeys(("dropout", "dropout_rates", "dropout_embedding"), 0.2)
    plain["contrast"] |= {"weight": 0.5, "layer": layer}
    for section, changes in (small_models.FACTORS if factors else {}).items():
        plain[section] |= changes
    plain["members"] |= {"mask_ratio": tuple(0.1 + 0.05 * k for k in range(MEMBERS))}
    return schema.from_mapping(plain)


CONFIG = _config()
ARCHS = {layer: step.arch(_config(layer), DIMS, 1) for layer in ("embedder", "decoder")}
ARCHS["factors"] = step.arch(_config("embedder", factors=True), DIMS, 1)
HYPER = jax.tree.map(jnp.asarray, schema.hyper(CONFIG))


def _batch() -> step.Batch:
    counts = np.random.default_rng(0).poisson(0.6, (BATCH, DIMS.bins, DIMS.neurons))
    known = np.random.default_rng(1).random(counts.shape) < 0.9
    return step.Batch(jnp.asarray(counts, jnp.uint8), jnp.asarray(known))


@functools.cache
def _params(layer: str) -> Any:
    return population.make_init(ARCHS[layer])(
        HYPER, batches.statistics(_batch(), DIMS)
    ).state.params


def test_members_on_a_grid_begin_as_on_one_device() -> None:
    """Statistics of the recording, which all members share, included."""
    grid = lifts.mesh(MEMBERS, 2)
    everywhere = multihost.placed(batches.statistics(_batch(), DIMS), lifts.of_all(grid))
    own = multihost.placed(HYPER, lifts.of_members(grid))
    found = population.make_init(ARCHS["factors"], grid)(own, everywhere).state.params
    for one, leaf in zip(
        jax.tree.leaves(multihost.whole(found)), jax.tree.leaves(_params("factors")), strict=True
    ):
        np.testing.assert_allclose(one, leaf, rtol=1e-5, atol=1e-8)
    assert np.ptp(found["input_mean"], axis=0).max() == 0 and found["input_mean"].any()


def gradients(grid: Any, engine: str = "mesh", layer: str = "embedder") -> Any:
    """Raw gradients of all members, their masks, dropout and contrastive loss included."""
    arch = ARCHS[layer]
    if engine == "pmap":
        arch = dataclasses.replace(arch, shard=pmap.shard(grid))

    def one(params: Any, hyper: schema.Hyper, batch: step.Batch) -> Any:
        if grid is not None and engine == "mesh":
            batch = jax.lax.with_sharding_constraint(batch, NamedSharding(grid, P("data")))
        noise = step.key(hyper.seed, "train", 3)
        loss = lambda params: step.loss(arch, params, hyper, batch, noise, jnp.float32(0.0))  # noqa: E731
        (total, parts), slopes = jax.value_and_grad(loss, has_aux=True)(params)
        return arch.shard.total((total, parts, slopes))

    if engine == "pmap":
        lifted = pmap.over_members(one, shared=1, grid=grid)
    else:
        lifted = lifts.over_members(one, shared=1, vmapped=True, grid=grid)
    placed = lifts.of_members(grid)
    run = jax.jit(lifted, out_shardings=placed)
    own = multihost.placed((_params(layer), HYPER), placed)
    return multihost.whole(run(*own, multihost.placed(_batch(), lifts.of_all(grid))))


@functools.cache
def on_one_device(layer: str = "embedder") -> Any:
    return gradients(None, layer=layer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "layer"),
    [
        (2, "factors"),
        pytest.param(8, "embedder", marks=pytest.mark.long),
        pytest.param(1, "embedder", marks=pytest.mark.long),
        pytest.param(4, "embedder", marks=pytest.mark.long),
    ],
)
def test_gradients_on_a_grid_are_those_of_one_device(data: int, layer: str) -> None:
    grid = lifts.mesh(MEMBERS, data)
    assert grid is not None
    assert grid.devices.shape == (8 // data, data)
    compare(gradients(grid, layer=layer), on_one_device(layer))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("members", "data", "layer"),
    [
        (8, 1, "embedder"),
        (1, 8, "factors"),
        pytest.param(1, 4, "decoder", marks=pytest.mark.long),
    ],
)
def test_gradients_under_pmap_are_those_of_one_device(members: int, data: int, layer: str) -> None:
    """Features of the decoder go through dropout, the two views one under the other."""
    grid = lifts.mesh(members, data, members * data)
    assert grid is not None and grid.devices.shape == (members, data)
    compare(gradients(grid, "pmap", layer), on_one_device(layer))


def compare(found: Any, wanted: Any) -> None:
    total, parts, slopes = found
    wanted_total, wanted_parts, wanted = wanted
    np.testing.assert_allclose(total, wanted_total, rtol=1e-5)
    assert float(np.min(parts.contrastive)) > 0.1
    np.testing.assert_allclose(parts.contrastive, wanted_parts.contrastive, rtol=1e-5)
    np.testing.assert_array_equal(parts.targets, wanted_parts.targets)
    for slope, leaf in zip(jax.tree.leaves(slopes), jax.tree.leaves(wanted), strict=True):
        assert np.abs(slope - leaf).max() <= 1e-5 * max(np.abs(leaf).max(), 1e-3)


@pytest.mark.parametrize(
    ("members", "data", "devices", "shape"),
    [
        (8, 1, 0, (8, 1)), (4, 2, 0, (4, 2)), (6, 1, 0, (6, 1)), (5, 2, 0, None), (3, 2, 6, (3, 2)),
        (7, 1, 4, None), (1, 8, 0, (1, 8)), (64, 1, 4, (4, 1)),
    ],
)  # fmt: skip
def test_the_largest_grid_that_divides(
    members: int, data: int, devices: int, shape: tuple[int, int] | None
) -> None:
    grid = lifts.mesh(members, data, devices)
    if shape is None:
        assert grid is None or grid.devices.shape == (1, data)
    else:
        assert grid is not None and grid.devices.shape == shape


def test_more_devices_than_there_are() -> None:
    with pytest.raises(ValueError, match="devices asked for: 9, here: 8"):
        lifts.mesh(9, 1, 9)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_reach(tmp_path_factory.mktemp("data"))


def _run(files: Path, path: Path, devices: int, data: int = 1, epochs: int = 6) -> list[str]:
    loaded = loading.load(
        [
            "--config=tiny",
            f"--config.data.path={files / 'reach.h5'}",
            f"--config.data.targets={files / 'reach_target.h5'}",
            "--config.model.layers=1",
            "--config.population=8",
            "--config.contrast.enabled=false",
            f"--config.train.epochs={epochs}",
            f"--config.parallel.devices={devices}",
            f"--config.parallel.data={data}",
        ]
    )
    return loop.train(loaded, recording.read(loaded), path, quiet=True)


@pytest.mark.long
def test_a_run_moves_from_eight_devices_to_one_and_back(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, moved = tmp_path / "alone", tmp_path / "moved"
    assert _run(files, alone, 1) == ["finished"] * 8
    for devices, data, stop_after in ((8, 1, 3), (1, 1, 4), (8, 1, None)):
        chunks = 0

        def one(*_: object, stop_after: int | None = stop_after) -> int:
            nonlocal chunks
            chunks += 1
            if chunks == stop_after:
                signal.raise_signal(signal.SIGTERM)
            return 1

        monkeypatch.setattr(loop, "_next_size", one)
        if stop_after is None:
            assert _run(files, moved, devices, data) == ["finished"] * 8
        else:
            with pytest.raises(Interrupted):
                _run(files, moved, devices, data)
    said = (moved / "log.txt").read_text()
    assert said.count("on 8 devices, 8 for members x 1 for the trials of a batch") == 2
    rows = [log.read_metrics(path / "metrics.jsonl") for path in (alone, moved)]
    assert [row["epoch"] for row in rows[1]] == [2, 4, 6] == [row["epoch"] for row in rows[0]]
    for one_, other in zip(*rows, strict=True):
        for name in ("train_loss", "valid_masked_loss", "valid_unmasked_loss"):
            np.testing.assert_allclose(one_[name], other[name], rtol=1e-5)


def test_devices_that_cannot_share_a_batch(files: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"parallel.data is 3, which does not divide the 16"):
        _run(files, tmp_path / "a", 0, 3)
    with pytest.raises(UserError, match="devices asked for: 16, here: 8"):
        _run(files, tmp_path / "b", 0, 16)
