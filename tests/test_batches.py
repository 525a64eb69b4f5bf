"""Which trials train and which select."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from stndt_jax.config import loading
from stndt_jax.config.schema import Config
from stndt_jax.data import synthetic
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.training import batches


@pytest.fixture(scope="module")
def recording() -> SpikeData:
    return synthetic.make(
        "reach", seed=1, trials=20, eval_trials=6, bins=6, bins_forward=2, heldin=4, heldout=2,
        directions=2, curved=False,
    )  # fmt: skip


def _test_phase(data: SpikeData) -> SpikeData:
    """The same recording without anything known of the evaluated trials but held-in counts."""
    hidden = dataclasses.replace(
        data.eval, heldout=None, heldin_forward=None, heldout_forward=None, rates=None
    )
    return dataclasses.replace(data, eval=hidden)


def _config(fraction: float) -> Config:
    return loading.load(["--config=tiny", f"--config.data.validation_fraction={fraction}"])


def test_known_targets_select(recording: SpikeData) -> None:
    trained, valid, _ = batches.split(_config(0.2), recording)
    assert trained.counts.shape == (20, 8, 6)
    assert valid is not None
    T, N = 6, 4
    np.testing.assert_array_equal(valid.counts[:, :T, :N], recording.eval.heldin)
    np.testing.assert_array_equal(valid.counts[:, :T, N:], recording.eval.heldout)
    np.testing.assert_array_equal(valid.counts[:, T:, N:], recording.eval.heldout_forward)
    assert np.all(valid.has_count)


def test_a_fraction_selects_where_targets_are_hidden(recording: SpikeData) -> None:
    data = _test_phase(recording)
    trained, valid, _ = batches.split(_config(0.25), data)
    assert valid is not None
    assert (len(trained.counts), len(valid.counts)) == (15, 5)
    whole = np.asarray(batches.batch_of(data.train, data.dims).counts)
    apart = np.concatenate([trained.counts, valid.counts]).reshape(20, -1)
    rows = {row.tobytes() for row in whole.reshape(20, -1)}
    assert {row.tobytes() for row in apart} == rows
    again = batches.split(_config(0.25), data)[1]
    assert again is not None
    np.testing.assert_array_equal(again.counts, valid.counts)


def test_no_fraction_trains_on_all(recording: SpikeData) -> None:
    trained, valid, _ = batches.split(_config(0.0), _test_phase(recording))
    assert len(trained.counts) == 20
    assert valid is None


def test_hidden_counts_are_not_known(recording: SpikeData) -> None:
    data = _test_phase(recording)
    batch = batches.batch_of(data.eval, data.dims)
    assert np.all(batch.has_count[:, :6, :4])
    assert not np.any(batch.has_count[:, 6:])
    assert not np.any(batch.has_count[:, :, 4:])


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_a_fraction_of_nothing_is_refused(recording: SpikeData, fraction: float) -> None:
    with pytest.raises(UserError, match="validation_fraction"):
        batches.split(_config(fraction), _test_phase(recording))
