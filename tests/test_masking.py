"""Corruption of a batch: what may be masked, how much of it, and what becomes of it.

Shares are compared with the binomial distribution at five standard deviations, counts with
the uniform one, and the widening of masks with a Python loop.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from stndt_jax.training import masking
from stndt_jax.types import Dims

DIMS = Dims(bins_observed=8, bins_forward=3, heldin=5, heldout=2)
MODES = ("full", "timestep", "neuron", "timestep_only")
TRIALS = 4
DRAWS = 3000
CASES = [*((mode, False) for mode in MODES), ("full", True)]
every_mode = pytest.mark.parametrize(
    ("mode", "grow_full"), CASES, ids=[mode + " grown" * grow for mode, grow in CASES]
)


def corrupted(mode, grow_full, x, how, widen, max_span, seed, dims):
    """Many draws over the same counts: (draws, B, T, N) of input and mask."""
    draw = functools.partial(masking.corrupt, mode=mode, grow_full=grow_full, dims=dims)
    keys = jax.random.split(jax.random.key(seed), DRAWS)
    return jax.vmap(lambda key: draw(key, x, how, widen=widen, max_span=max_span))(keys)


compiled = jax.jit(corrupted, static_argnums=(0, 1, 7))


def draws(
    mode: str,
    x: np.ndarray,
    ratio: float = 0.3,
    token: float = 0.4,
    random: float = 0.5,
    grow_full: bool = False,
    widen: float = 0.0,
    max_span: int = 1,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    how = masking.Corruption(*(jnp.float32(v) for v in (ratio, token, random)))
    found = compiled(
        mode, grow_full, x, how, jnp.float32(widen), jnp.int32(max_span), jnp.int32(seed), DIMS
    )
    return np.asarray(found[0]), np.asarray(found[1])


def counts(seed: int = 0) -> np.ndarray:
    """Counts of at least 1, so that what becomes 0 can be told, of at most 8."""
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 8, size=(TRIALS, DIMS.bins, DIMS.neurons)).astype(np.uint8)
    x[0, 0, 0] = 8
    x[:, :, DIMS.heldin :] = 200  # must never be seen, not even by the largest count
    x[:, DIMS.bins_observed :] = 201
    return x


def z_score(successes: float, trials: float, probability: float) -> float:
    spread = math.sqrt(trials * probability * (1 - probability))
    return (successes - trials * probability) / spread


@every_mode
def test_only_heldin_observed_entries_are_ever_masked(mode, grow_full):
    x = counts()
    for widen, max_span in [(0.0, 1), (1.0, 5)]:
        input_, mask = draws(
            mode, x, ratio=0.9, widen=widen, max_span=max_span, grow_full=grow_full
        )
        seen = (slice(None), slice(None), slice(DIMS.bins_observed), slice(DIMS.heldin))
        assert mask.any(axis=(0, 1))[seen[2:]].all()
        outside = np.ones(mask.shape, bool)
        outside[seen] = False
        assert not mask[outside].any()
        assert (input_[outside] == 0).all()
        # What is not masked is what it was.
        kept = ~mask & ~outside
        np.testing.assert_array_equal(
            input_[kept], np.broadcast_to(x, input_.shape)[kept].astype(np.float32)
        )


def test_clean_and_predicted_by_hand():
    x = counts()
    input_ = np.asarray(masking.clean(jnp.asarray(x), DIMS))
    wanted = x.astype(np.float32)
    wanted[:, 8:] = 0
    wanted[:, :, 5:] = 0
    np.testing.assert_array_equal(input_, wanted)
    assert input_.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(masking.predicted(DIMS)), wanted[0] == 0)


UNITS = {"full": 8 * 5 * TRIALS, "timestep": 8 * TRIALS, "neuron": 5 * TRIALS, "timestep_only": 8}


@pytest.mark.parametrize(
    ("mode", "width"),
    # Masks that grow are compared with a loop below.
    [*((mode, 1) for mode in MODES), ("full", 3), ("neuron", 3)],
)
def test_the_share_of_drawn_units_is_the_ratio_over_the_width(mode, width):
    ratio = 0.3
    _, mask = draws(mode, counts(), ratio=ratio, widen=1.0, max_span=width, seed=width)
    mask = mask[:, :, : DIMS.bins_observed, : DIMS.heldin]
    units = {
        "full": mask,
        "timestep": mask[:, :, :, :1],
        "neuron": mask[:, :, :1, :],
        "timestep_only": mask[:, :1, :, :1],
    }[mode]
    # A unit is masked whole.
    np.testing.assert_array_equal(np.broadcast_to(units, mask.shape), mask)
    assert units[0].size == UNITS[mode]
    if width == 1:
        assert abs(z_score(units.sum(), units.size, ratio)) < 5
        return
    # Width w is uniform in 1..max_span, so the shares of draws mix ratio / w. A mean over draws,
    # each with the variance of the mixture.
    shares = np.array([ratio / w for w in range(1, width + 1)])
    of_draws = units.reshape(DRAWS, -1).mean(axis=1)
    spread = math.sqrt((shares * (1 - shares)).mean() / units[0].size + shares.var())
    assert abs(of_draws.mean() - shares.mean()) < 5 * spread / math.sqrt(DRAWS)
    # And the mixture is one: the draws vary by far more than at one ratio.
    assert of_draws.var() == pytest.approx(spread**2, rel=0.15)


def test_ratios_zero_and_one():
    _, none = draws("full", counts(), ratio=0.0)
    assert not none.any()
    _, every = draws("full", counts(), ratio=1.0)
    assert every[:, :, : DIMS.bins_observed, : DIMS.heldin].all()


@every_mode
def test_fates_of_masked_entries(mode, grow_full):
    # One count everywhere, larger than any random one, so that each fate shows.
    x = np.full((TRIALS, DIMS.bins, DIMS.neurons), 200, np.uint8)
    token, random = 0.4, 0.3
    input_, mask = draws(
        mode, x, ratio=0.35, token=token, random=random, grow_full=grow_full, max_span=2, widen=0.5
    )
    fates = input_[mask]
    kept = (fates == 200).sum()
    zero = (fates == 0).sum()
    # Random counts are 0 once in 200.
    scrambled = (1 - token) * random
    assert abs(z_score(kept, fates.size, (1 - token) * (1 - random))) < 5
    assert abs(z_score(zero, fates.size, token + scrambled / 200)) < 5
    assert fates.max() == 200
    # Entries have their own fates, also where bins or neurons are masked whole.
    if mode == "timestep":
        whole = input_[:, :, : DIMS.bins_observed, : DIMS.heldin]
        whole = whole[mask[:, :, : DIMS.bins_observed, 0]] == 0
        share = token + scrambled / 200
        assert abs(z_score(whole.all(axis=1).sum(), len(whole), share**DIMS.heldin)) < 5


def test_extreme_token_and_random_ratios():
    x = np.full((TRIALS, DIMS.bins, DIMS.neurons), 3, np.uint8)
    for token, random, wanted in [
        (1.0, 1.0, {0}),
        (0.0, 0.0, {3}),
        (0.0, 1.0, {0, 1, 2}),
        (0.5, 0.0, {0, 3}),
    ]:
        input_, mask = draws("full", x, token=token, random=random)
        assert set(np.unique(input_[mask])) == wanted


@every_mode
def test_random_counts_are_uniform_below_the_largest_of_the_batch(mode, grow_full):
    input_, mask = draws(mode, counts(), token=0.0, random=1.0, grow_full=grow_full, seed=7)
    # The largest count among held-in, observed entries is 8.
    found = np.bincount(input_[mask].astype(int), minlength=8)
    assert len(found) == 8
    assert stats.chisquare(found).pvalue > 1e-4


def test_random_counts_of_silent_batches_are_zero():
    silent = np.zeros((TRIALS, DIMS.bins, DIMS.neurons), np.uint8)
    silent[:, :, DIMS.heldin :] = 4
    input_, mask = draws("full", silent, token=0.0, random=1.0)
    assert mask.any()
    assert (input_ == 0).all()
    assert np.isfinite(input_).all()


def grown_by_a_loop(mask: np.ndarray, width: int) -> np.ndarray:
    """Each masked bin becomes ``width`` bins, one more behind it than ahead if that is even."""
    out = np.zeros_like(mask)
    for b, t, n in np.argwhere(mask):
        for s in range(t - width // 2, t - width // 2 + width):
            if 0 <= s < mask.shape[1]:
                out[b, s, n] = True
    return out


def test_grow_equals_a_loop():
    rng = np.random.default_rng(0)
    mask = rng.random((3, 11, 4)) < 0.15
    mask[0] = False
    grow = jax.jit(masking.grow)
    for width in range(1, 14):
        found = np.asarray(grow(jnp.asarray(mask), jnp.int32(width)))
        np.testing.assert_array_equal(found, grown_by_a_loop(mask, width), err_msg=str(width))


@pytest.mark.parametrize(
    ("mode", "grow_full"), [("timestep", False), ("timestep_only", False), ("full", True)]
)
def test_masks_grow_to_runs_and_cover_the_expected_share(mode, grow_full):
    ratio, span = 0.3, 4
    _, mask = draws(
        mode, counts(), ratio=ratio, grow_full=grow_full, widen=1.0, max_span=span, seed=3
    )
    bins = DIMS.bins_observed
    columns = mask[:, :, :bins, : DIMS.heldin].swapaxes(2, 3)
    # Bin t is free if none of the bins that would reach it was drawn, each with ratio / width.
    wanted = np.zeros(bins)
    for width in range(1, span + 1):
        for t in range(bins):
            drawn = np.zeros((1, bins, 1), bool)
            reach = 0
            for s in range(bins):
                drawn[:] = False
                drawn[0, s] = True
                reach += grown_by_a_loop(drawn, width)[0, t, 0]
            wanted[t] += (1 - (1 - ratio / width) ** reach) / span
    per_draw = {
        "timestep": columns[:, :, 0].mean(axis=1),
        "timestep_only": columns[:, 0, 0].astype(float),
        "full": columns.mean(axis=(1, 2)),
    }[mode]
    error = per_draw.std(axis=0) / math.sqrt(DRAWS)
    assert (np.abs(per_draw.mean(axis=0) - wanted) < 5 * error).all()


def test_full_mode_grows_only_by_its_switch():
    # At width 8 only a grown mask covers neighbours: count pairs of bins masked together.
    ratio = 0.16
    together = {}
    for grow_full in (False, True):
        _, mask = draws("full", counts(), ratio=ratio, grow_full=grow_full, widen=1.0, max_span=8)
        mask = mask[:, :, : DIMS.bins_observed, : DIMS.heldin]
        together[grow_full] = (mask[:, :, 1:] & mask[:, :, :-1]).mean()
    # Independent entries: the mean over widths of (ratio / width)^2.
    wanted = np.mean([(ratio / w) ** 2 for w in range(1, 9)])
    assert together[False] == pytest.approx(wanted, rel=0.2)
    assert together[True] > 10 * wanted


def test_the_same_bins_in_every_trial_only_in_timestep_only():
    for mode in MODES:
        _, mask = draws(mode, counts(), widen=0.5, max_span=3)
        same = (mask == mask[:, :1]).all()
        assert same == (mode == "timestep_only"), mode


@every_mode
def test_a_draw_is_a_function_of_its_key(mode, grow_full):
    first = draws(mode, counts(), grow_full=grow_full, seed=1)
    again = draws(mode, counts(), grow_full=grow_full, seed=1)
    other = draws(mode, counts(), grow_full=grow_full, seed=2)
    np.testing.assert_array_equal(first[0], again[0])
    assert (first[1] != other[1]).any()


def test_widths_are_uniform_and_come_as_often_as_asked():
    keys = jax.random.split(jax.random.key(4), 20000)
    draw = jax.jit(jax.vmap(masking.sample_width, in_axes=(0, None, None)))
    for span in (1, 2, 7):
        widths = np.asarray(draw(keys, jnp.float32(1.0), jnp.int32(span)))
        found = np.bincount(widths, minlength=span + 1)[1:]
        assert len(found) == span
        if span > 1:
            assert stats.chisquare(found).pvalue > 1e-4
    assert (np.asarray(draw(keys, jnp.float32(0.0), jnp.int32(7))) == 1).all()
    widths = np.asarray(draw(keys, jnp.float32(0.25), jnp.int32(4)))
    assert abs(z_score((widths > 1).sum(), len(widths), 0.25 * 3 / 4)) < 5


def test_widening_probability_is_a_ramp():
    for epoch, start, end, wanted in [
        (0.0, 10.0, 30.0, 0.0),
        (10.0, 10.0, 30.0, 0.0),
        (15.0, 10.0, 30.0, 0.25),
        (20.0, 10.0, 30.0, 0.5),
        (30.0, 10.0, 30.0, 1.0),
        (99.0, 10.0, 30.0, 1.0),
        (4.9, 5.0, 5.0, 0.0),
        (5.1, 5.0, 5.0, 1.0),
    ]:
        found = masking.widening_probability(*(jnp.float32(v) for v in (epoch, start, end)))
        assert float(found) == pytest.approx(wanted, abs=1e-6)
