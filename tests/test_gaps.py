"""Bins that were not recorded: in no input, attention, loss or score."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stndt_jax.configs import tiny

from stndt_jax.config import schema
from stndt_jax.data.trials import SpikeData
from stndt_jax.training import step
from stndt_jax.types import Dims

LONG, SHORT, N = 8, 5, 6  # bins of a whole trial and of one that ends early
DIMS = Dims(LONG, 0, 4, 2, gaps=True)


def setting(**model: Any) -> schema.Config:
    values = tiny.get_config().to_dict()
    values["model"] |= {"dropout": 0.0, "dropout_rates": 0.0, "dropout_embedding": 0.0} | model
    return schema.from_mapping(values)


def hyper(made: schema.Config, **changes: Any) -> schema.Hyper:
    plain = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), schema.hyper(made))
    return plain._replace(
        **{k: jnp.asarray(v, getattr(plain, k).dtype) for k, v in changes.items()}
    )


def batch(seed: int = 0) -> step.Batch:
    """Four trials, the first and the last of them short."""
    rng = np.random.default_rng(seed)
    known = np.ones((4, LONG, N), bool)
    known[[0, 3], SHORT:] = False
    counts = rng.poisson(1.0, known.shape) * known
    return step.Batch(jnp.asarray(counts, jnp.uint8), jnp.asarray(known))


@pytest.mark.parametrize("context", [(30, 30), (2, 2)])
def test_short_trials_have_the_rates_of_an_unpadded_run(context):
    """NDT, whose weights do not know the number of bins: the same ones, on fewer bins."""
    made = setting(spatial=False)
    how = hyper(made, context_forward=context[0], context_backward=context[1])
    given = batch()
    padded = step.arch(made, DIMS, 1)
    params = step.init(padded, how).params
    short = step.arch(made, Dims(SHORT, 0, 4, 2), 1)
    found = step.rates(padded, params, how, given.counts, given.has_count)
    wanted = step.rates(short, params, how, given.counts[jnp.array([0, 3]), :SHORT])
    np.testing.assert_allclose(found[jnp.array([0, 3]), :SHORT], wanted, rtol=2e-6)
    # Without the mask they are other rates, up to the trial's end and near it above all.
    blind = step.arch(made, dataclasses.replace(DIMS, gaps=False), 1)
    careless = step.rates(blind, params, how, given.counts)[0, SHORT - 1]
    assert not np.allclose(careless, wanted[0, -1], rtol=1e-3)


@pytest.mark.parametrize("spatial", [True, False])
def test_whole_trials_have_the_rates_of_a_run_without_gaps(spatial):
    made = setting(spatial=spatial)
    how, given = hyper(made), batch()
    padded = step.arch(made, DIMS, 1)
    plain = step.arch(made, dataclasses.replace(DIMS, gaps=False), 1)
    params = step.init(padded, how).params
    found = step.rates(padded, params, how, given.counts, given.has_count)
    wanted = step.rates(plain, params, how, given.counts)
    np.testing.assert_allclose(found[1:3], wanted[1:3], rtol=2e-6)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_nothing_attends_to_padding(norm):
    """What stands in padded bins, here their position code, changes no other bin's rate."""
    made = setting(position="learned", norm=norm)
    how, given = hyper(made), batch()
    arch = step.arch(made, DIMS, 1)
    params = step.init(arch, how).params
    moved = params | {"position": params["position"].at[SHORT:].add(3.0)}
    a, b = (step.rates(arch, p, how, given.counts, given.has_count) for p in (params, moved))
    np.testing.assert_array_equal(a[0, :SHORT], b[0, :SHORT])
    assert not np.allclose(a[1, :SHORT], b[1, :SHORT], rtol=1e-3)  # a whole trial does
    _, out = arch.network.apply(
        {"params": params},
        given.counts.astype(jnp.float32),
        step.forward_hyper(arch, how),
        step.recorded(given.has_count, DIMS),
    )
    assert np.all(np.asarray(out["temporal_attention"])[:, 0, :SHORT, SHORT:] == 0)


@pytest.mark.long
def test_padding_is_in_no_loss_gradient_or_score():
    made = setting()
    arch = step.arch(made, DIMS, 1)
    how = hyper(made, mask_ratio=0.5, mask_token_ratio=0.0, mask_random_ratio=1.0)
    params, given = step.init(arch, how).params, batch()
    other = given._replace(counts=jnp.where(given.has_count, given.counts, 1))
    grad = jax.jit(jax.value_and_grad(functools.partial(step.loss, arch), has_aux=True))
    noise = jax.random.key(0)
    (a, parts), da = grad(params, how, given, noise, jnp.float32(1.0))
    (b, _), db = grad(params, how, other, noise, jnp.float32(1.0))
    assert a == b and np.isfinite(a)
    jax.tree.map(np.testing.assert_array_equal, da, db)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(da))
    # Of 4 trials of 8 bins, 2 held-out neurons each, 12 entries are padding.
    masked = float(parts.targets) - (4 * LONG * 2 - 12)
    assert 0 < masked < 4 * LONG * 4 - 24
    scores = [step.evaluate_step(arch, params, how, x, jnp.int32(0)) for x in (given, other)]
    jax.tree.map(np.testing.assert_array_equal, *scores)
    assert float(scores[0].heldout.entries.sum()) == 4 * LONG * 2 - 12


def test_co_bps_is_that_of_nlb_tools_with_nan():
    evaluation = pytest.importorskip("nlb_tools.evaluation", reason="needs nlb_tools")
    made = setting()
    arch, how, given = step.arch(made, DIMS, 1), hyper(made), batch()
    params = step.init(arch, how).params
    found = step.evaluate_step(arch, params, how, given, jnp.int32(0)).heldout.value()
    rates = np.asarray(step.rates(arch, params, how, given.counts, given.has_count), np.float64)
    spikes = np.where(given.has_count, given.counts, np.nan)[..., 4:].astype(np.float64)
    assert float(found) == pytest.approx(
        evaluation.bits_per_spike(rates[..., 4:], spikes), abs=1e-5
    )


def test_a_recording_tells_whether_it_has_gaps():
    rows = [np.ones((bins, N), int) for bins in (LONG, SHORT, LONG, LONG)]
    assert SpikeData.from_arrays(rows, bin_ms=5).gaps
    assert not SpikeData.from_arrays(rows[:1] * 4, bin_ms=5).gaps
