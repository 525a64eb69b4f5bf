"""GPFA and the LDS, where their packages are installed; their read-out everywhere."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from helpers import recordings

from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.errors import UserError
from stndt_jax.evaluation import latent_baselines
from stndt_jax.evaluation.submission import check as check_submission

PACKAGES = {"gpfa": "elephant", "lds": "dynamax"}


def oscillating(trials: int = 24, bins: int = 40, heldin: int = 20, heldout: int = 6):
    """Counts of neurons that follow two slow latents, and their true rates."""
    rng = np.random.default_rng(0)
    phase, time = rng.uniform(0, 2 * np.pi, (trials, 1)), np.arange(bins)
    z = np.stack([np.sin(time / 6 + phase), np.cos(time / 6 + phase)], axis=-1)
    rates = np.exp(z @ rng.normal(0, 0.7, (2, heldin + heldout)) - 0.5)
    counts = rng.poisson(rates).astype(np.uint8)

    def split(rows: slice) -> Trials:
        x = counts[rows]
        return Trials(
            heldin=x[..., :heldin], heldout=x[..., heldin:], heldin_forward=None,
            heldout_forward=None, behavior=None, conditions=None, rates=None, recorded=None,
        )  # fmt: skip

    train = trials - 8
    data = SpikeData(split(slice(train)), split(slice(train, None)), "waves", 20.0, None)
    return data, rates[train:, :, heldin:]


def bits_per_spike(rates: np.ndarray, counts: np.ndarray) -> float:
    counts = counts.astype(float)
    null = np.broadcast_to(counts.mean(axis=(0, 1)), counts.shape)
    loss = [np.sum(r - counts * np.log(r)) for r in (null, rates)]
    return (loss[0] - loss[1]) / counts.sum() / np.log(2)


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
# What others warn of is theirs.
@pytest.mark.filterwarnings("ignore")
def test_latents_of_known_waves_come_near_their_true_rates(name: str) -> None:
    pytest.importorskip(PACKAGES[name], reason=f"the extra {name} is not installed")
    data, true = oscillating()
    rates = getattr(latent_baselines, name)(data, latents=2, iterations=20)
    check_submission(rates, data)
    reached = bits_per_spike(rates["eval_rates_heldout"], data.eval.heldout)
    possible = bits_per_spike(true, data.eval.heldout)
    assert possible > 0.2
    assert reached > 0.75 * possible


def test_true_latents_are_read_out_to_the_true_rates() -> None:
    """Log-rates linear in the latents: the regression finds them again, up to noise."""
    data, true = oscillating(trials=216, heldin=2)
    rng = np.random.default_rng(1)
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, (216, 1))
    z = np.stack([np.sin(np.arange(40) / 6 + phase), np.cos(np.arange(40) / 6 + phase)], axis=-1)
    mixed = z @ rng.normal(size=(2, 2)) + 3.0  # any basis of the same plane will do
    found = latent_baselines._read_out(data, mixed)["eval_rates_heldout"]
    assert np.abs(np.log(found / true)).mean() < 0.1


def test_forward_bins_hold_the_last_observed_one() -> None:
    data = recordings.toy()
    z = np.random.default_rng(0).normal(size=(len(data.train) + len(data.eval), 5, 2))
    found = latent_baselines._read_out(data, z)
    check_submission(found, data)
    for block in ("heldin", "heldout"):
        last = found[f"eval_rates_{block}"][:, -1:]
        np.testing.assert_array_equal(
            found[f"eval_rates_{block}_forward"], np.repeat(last, data.bins_forward, axis=1)
        )


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named_with_its_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [m for m in sys.modules if m.split(".")[0] == PACKAGES[name]]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    monkeypatch.setitem(sys.modules, f"{PACKAGES[name]}.gpfa", None)
    monkeypatch.setitem(sys.modules, f"{PACKAGES[name]}.linear_gaussian_ssm", None)
    with pytest.raises(UserError, match=rf"pip install -e '\.\[{name}\]'"):
        getattr(latent_baselines, name)(recordings.toy())


@pytest.mark.filterwarnings("ignore")
def test_more_latents_than_neurons_are_refused() -> None:
    installed = [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]
    for name in installed:
        with pytest.raises(UserError, match="between 1 and the 3 held-in"):
            getattr(latent_baselines, name)(recordings.toy(), latents=4)
