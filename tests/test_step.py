"""One step on one batch against the oracle, with corruptions that leave nothing to chance."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracle import (
    forward,
    losses,
    numerical_gradient,
    oracle_bits_per_spike,
    oracle_poisson,
)
from helpers.published import make_options, random_state
from stndt_jax.configs import default

from stndt_jax.config import schema
from stndt_jax.interop import torch_params
from stndt_jax.training import optim, step
from stndt_jax.types import Dims

DIMS = Dims(bins_observed=5, bins_forward=2, heldin=4, heldout=2)
PUBLISHED = make_options(
    NUM_HEADS=1, NUM_LAYERS=1, HIDDEN_SIZE=4, USE_CONTRAST_PROJECTOR=True, LINEAR_PROJECTOR=True
)
WEIGHTS = random_state(np.random.default_rng(0), PUBLISHED, DIMS.bins, DIMS.neurons)
STILL: dict[str, Any] = {
    "dropout": 0.0,
    "dropout_rates": 0.0,
    "dropout_embedding": 0.0,
    "mask_ratio": 0.0,
    "contrast_ratio": 0.0,
    "contrast_weight": 0.1,
    "warmup_epochs": 0.0,
    "learning_rate": 0.01,
    "weight_decay": 0.5,
}
EPOCHS, STEPS_PER_EPOCH = 10, 2


def whole() -> schema.Config:
    start = schema.from_mapping(default.get_config().to_dict())
    model, contrast = torch_params.options(PUBLISHED, start.model, start.contrast)
    train = dataclasses.replace(start.train, epochs=EPOCHS)
    return dataclasses.replace(start, model=model, contrast=contrast, train=train)


CONFIG = whole()
ARCH = step.arch(CONFIG, DIMS, STEPS_PER_EPOCH)


def hyper(**changes: Any) -> schema.Hyper:
    plain = jax.tree.map(lambda leaf: leaf[0], schema.hyper(CONFIG))
    values = {name: type(getattr(plain, name))(v) for name, v in (STILL | changes).items()}
    return plain._replace(**values)


@functools.cache
def start() -> step.State:
    params = torch_params.parameters(WEIGHTS, ARCH.model, ARCH.contrast, DIMS)
    params = jax.tree.map(jnp.asarray, params)
    opt_state = optim.init(ARCH.optimizer, params)
    return step.State(params, opt_state, jnp.int32(0), jnp.bool_(True), jnp.bool_(True))


def batch(seed: int = 1, missing: float = 0.2) -> step.Batch:
    rng = np.random.default_rng(seed)
    known = rng.random((4, DIMS.bins, DIMS.neurons)) >= missing
    known[..., : DIMS.heldin] = True
    counts = rng.poisson(0.8, known.shape) * known
    return step.Batch(jnp.asarray(counts, jnp.uint8), jnp.asarray(known))


train = jax.jit(functools.partial(step.train_step, ARCH))
evaluate = jax.jit(functools.partial(step.evaluate_step, ARCH))
rates = jax.jit(functools.partial(step.rates, ARCH))


def seen(counts: Any) -> np.ndarray:
    """What the model may see of the counts."""
    x = np.array(counts, float)
    x[:, DIMS.bins_observed :] = 0
    x[:, :, DIMS.heldin :] = 0
    return x


def observed() -> np.ndarray:
    """(T, N), true at held-in neurons in observed bins."""
    where = np.zeros((DIMS.bins, DIMS.neurons), bool)
    where[: DIMS.bins_observed, : DIMS.heldin] = True
    return where


def options(changed: schema.Hyper) -> dict[str, Any]:
    """The oracle's options at these hyperparameters."""
    return PUBLISHED | {
        "CONTEXT_FORWARD": int(changed.context_forward),
        "CONTEXT_BACKWARD": int(changed.context_backward),
        "TEMPERATURE": float(changed.contrast_temperature),
        "LAMBDA": float(changed.contrast_weight),
    }


def labels(given: step.Batch, masked: np.ndarray) -> np.ndarray:
    return np.where(masked & np.asarray(given.has_count), np.asarray(given.counts, int), -100)


def test_rates_equal_the_oracle_and_see_heldin_observed_counts_alone():
    given, still = batch(), hyper()
    found = np.asarray(rates(start().params, still, given.counts))
    wanted = np.exp(forward(WEIGHTS, options(still), seen(given.counts)).lograte)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    moved = np.array(given.counts)
    moved[:, ~observed()] = 77
    np.testing.assert_array_equal(rates(start().params, still, moved), found)
    moved[0, 0, 0] += 1
    assert (np.asarray(rates(start().params, still, moved))[0] != found[0]).all()
    # Rates are the model's without dropout.
    np.testing.assert_array_equal(rates(start().params, hyper(dropout=0.5), given.counts), found)


def test_with_nothing_masked_the_targets_are_heldout_and_forward_counts():
    given, still = batch(), hyper()
    _, metrics = train(start(), still, given)
    x = seen(given.counts)
    z = forward(WEIGHTS, options(still), x).lograte
    wanted = losses(WEIGHTS, options(still), z, labels(given, ~observed()), x, x)
    assert float(metrics["masked_loss"]) == pytest.approx(wanted.poisson_nll, rel=1e-5)
    assert 0.1 * float(metrics["contrastive_loss"]) == pytest.approx(wanted.contrastive, rel=1e-4)
    assert float(metrics["loss"]) == pytest.approx(wanted.loss, rel=1e-5)


def test_with_everything_masked_all_known_counts_are_targets():
    given = batch()
    gone = hyper(
        mask_ratio=1.0, mask_token_ratio=1.0, contrast_ratio=1.0, contrast_token_ratio=0.0,
        contrast_random_ratio=0.0, contrast_weight=0.3, contrast_temperature=0.5,
        context_forward=1, context_backward=2,
    )  # fmt: skip
    _, metrics = train(start(), gone, given)
    z = forward(WEIGHTS, options(gone), np.zeros(given.counts.shape)).lograte
    # The views mask every entry too, but leave it as it was.
    views = seen(given.counts), seen(given.counts)
    everything = np.ones(given.has_count.shape, bool)
    wanted = losses(WEIGHTS, options(gone), z, labels(given, everything), *views)
    assert float(metrics["masked_loss"]) == pytest.approx(wanted.poisson_nll, rel=1e-5)
    assert 0.3 * float(metrics["contrastive_loss"]) == pytest.approx(wanted.contrastive, rel=1e-4)
    assert float(metrics["loss"]) == pytest.approx(wanted.loss, rel=1e-5)


def test_the_contrastive_loss_counts_from_its_epoch():
    late = hyper(contrast_start_epoch=1.0, contrast_weight=7.0)
    for taken, counts_ in [(0, False), (STEPS_PER_EPOCH - 1, False), (STEPS_PER_EPOCH, True)]:
        _, metrics = train(start()._replace(step=jnp.int32(taken)), late, batch())
        wanted = metrics["masked_loss"] + counts_ * 7.0 * metrics["contrastive_loss"]
        assert float(metrics["loss"]) == pytest.approx(float(wanted), rel=1e-6)
        assert float(metrics["contrastive_loss"]) > 0


def test_the_first_step_is_adams_at_the_oracles_gradient():
    given, still = batch(), hyper()
    after, metrics = train(start(), still, given)
    x = seen(given.counts)
    wanted_labels = labels(given, ~observed())
    name = "src_decoder.0.weight"

    def loss(moved: np.ndarray) -> float:
        state = WEIGHTS | {name: moved}
        z = forward(state, options(still), x).lograte
        return losses(state, options(still), z, wanted_labels, x, x).loss

    entries = [(0, 0), (2, 5), (5, 1), (4, 4)]
    slopes = numerical_gradient(loss, WEIGHTS[name], entries)
    assert (np.abs(slopes) > 1e-4).all()
    for (row, column), slope in zip(entries, slopes, strict=True):
        before = WEIGHTS[name][row, column]
        # Adam's first step is the sign of the gradient; the decay is decoupled.
        wanted = before - 0.01 * (np.sign(slope) + 0.5 * before)
        found = float(after.params["decoder"]["kernel"][column, row])
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert float(metrics["learning_rate"]) == pytest.approx(0.01)
    assert float(metrics["gradient_norm"]) > np.abs(slopes).max()
    assert int(after.step) == 1 and bool(after.healthy) and bool(after.active)


def test_the_learning_rate_follows_epochs():
    warm = hyper(warmup_epochs=4.0)
    for taken, share in [(0, 0.0), (1, 0.125), (4, 0.5), (8, 1.0), (14, 0.5), (20, 0.0)]:
        _, metrics = train(start()._replace(step=jnp.int32(taken)), warm, batch())
        assert float(metrics["learning_rate"]) == pytest.approx(0.01 * share, abs=1e-8)


def same(a: Any, b: Any) -> bool:
    return all(
        np.array_equal(x, y, equal_nan=True)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_noise_is_a_function_of_seed_and_step():
    noisy = hyper(mask_ratio=0.5, dropout=0.3)
    _, first = train(start(), noisy, batch())
    _, again = train(start(), noisy, batch())
    _, later = train(start()._replace(step=jnp.int32(1)), noisy, batch())
    _, other = train(start(), noisy._replace(seed=np.int32(9)), batch())
    assert same(first, again)
    assert len({float(m["masked_loss"]) for m in (first, later, other)}) == 3


def test_an_inactive_model_stays_as_it_is():
    resting = start()._replace(active=jnp.bool_(False), step=jnp.int32(3))
    after, _ = train(resting, hyper(), batch())
    assert same(after, resting)
    after, _ = train(start(), hyper(), batch())
    assert not same(after.params, start().params)


def test_a_step_that_is_not_finite_is_not_taken():
    broken = jax.tree.map(jnp.copy, start().params)
    broken["decoder"]["bias"] = broken["decoder"]["bias"].at[1].set(200.0)  # exp overflows
    state = start()._replace(params=broken)
    after, metrics = train(state, hyper(), batch())
    assert float(metrics["steps"]) == float(metrics["loss"]) == 0.0
    assert not bool(after.healthy) and not bool(after.active)
    assert same(after._replace(healthy=state.healthy, active=state.active), state)
    # One that had stopped of itself is not called ill for it.
    stopped, _ = train(state._replace(active=jnp.bool_(False)), hyper(), batch())
    assert bool(stopped.healthy)


def test_scores_equal_the_oracle():
    given, still = batch(missing=0.3), hyper()
    found = jax.tree.map(float, evaluate(start().params, still, given, jnp.int32(0)).values())
    z = forward(WEIGHTS, options(still), seen(given.counts)).lograte
    unmasked = oracle_poisson(z, labels(given, np.broadcast_to(observed(), z.shape)))
    masked = oracle_poisson(z, labels(given, np.broadcast_to(~observed(), z.shape)))
    assert found["unmasked_loss"] == pytest.approx(unmasked, rel=1e-5)
    assert found["masked_loss"] == pytest.approx(masked, rel=1e-5)
    counts = np.where(given.has_count, np.asarray(given.counts, float), np.nan)
    heldout = (slice(None), slice(DIMS.bins_observed), slice(DIMS.heldin, None))
    cobps = oracle_bits_per_spike(np.exp(z)[heldout], counts[heldout])
    assert found["cobps"] == pytest.approx(cobps, rel=1e-5)


def test_a_validation_is_corrupted_as_the_one_before():
    masked = hyper(mask_ratio=0.5)
    params = start().params
    first, again, next_batch = (
        evaluate(params, masked, batch(), jnp.int32(index)) for index in (0, 0, 1)
    )
    assert same(first, again)
    assert float(first.masked[0]) != float(next_batch.masked[0])
    # Only that score depends on the corruption.
    assert same(first.unmasked, next_batch.unmasked) and same(first.heldout, next_batch.heldout)
    # Masks are of one bin there, however wide they are in training.
    wide = masked._replace(mask_max_span=np.int32(5))
    assert same(evaluate(params, wide, batch(), jnp.int32(0)), first)


def test_scores_merge():
    params = start().params
    parts = [evaluate(params, hyper(), batch(seed), jnp.int32(0)) for seed in (1, 2)]
    both = step.Batch(*(jnp.concatenate(pair) for pair in zip(batch(1), batch(2), strict=True)))
    wanted = evaluate(params, hyper(), both, jnp.int32(0)).values()
    found = parts[0].merge(parts[1]).values()
    for name in wanted:
        assert float(found[name]) == pytest.approx(float(wanted[name]), rel=1e-5)


def test_weights_are_a_function_of_the_seed():
    init = jax.jit(functools.partial(step.init, ARCH))
    first, again, other = (init(hyper(seed=seed)) for seed in (1, 1, 2))
    assert same(first, again)
    assert int(first.step) == 0 and bool(first.healthy) and bool(first.active)
    kernels = [s.params["layers_0"]["temporal"]["qkv"]["kernel"] for s in (first, other)]
    assert (kernels[0] != kernels[1]).all()
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(first.opt_state))
