"""Attention and rates over batches, compared with the network applied trial by trial."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_models

from stndt_jax.data.trials import SpikeData
from stndt_jax.evaluation import inference
from stndt_jax.interpret import attention
from stndt_jax.models.attention import attendable
from stndt_jax.training import masking, step
from stndt_jax.training.restore import TrainedModel


def one_by_one(model: TrainedModel, data: SpikeData) -> list[dict[str, np.ndarray]]:
    """The network's output for every evaluated trial by itself."""
    arch, params, hyper = model.trained.arch, model.params("cobps"), model.hyper
    counts = jnp.asarray(data.eval.counts(data.bins_forward, data.heldout))
    known = jnp.asarray(data.eval.has_count(data.bins_forward, data.heldout))
    run = jax.jit(
        lambda params, hyper, x, seen: arch.network.apply(
            {"params": params}, x, step.forward_hyper(arch, hyper), seen
        )
    )
    found = []
    for r in range(len(data.eval)):
        x, seen = masking.clean(counts[r : r + 1], arch.dims), None
        if data.gaps:
            x, seen = (
                jnp.where(known[r : r + 1], x, 0),
                step.recorded(known[r : r + 1], arch.dims),
            )
        z, out = run(params, hyper, x, seen)
        row = {name: np.asarray(value[:, 0], float) for name, value in out.items()}
        row["rates"] = np.exp(np.asarray(z[0], float))
        bins = np.ones(data.bins) if seen is None else np.asarray(attendable(seen, arch.dims)[0])
        found.append(row | {"seen": bins})
    return found


@pytest.mark.parametrize("gaps", [False, True])
def test_attention_is_the_mean_over_trials(gaps: bool) -> None:
    data = small_models.recording(gaps=gaps)
    (model,) = small_models.models(data)  # batches of 4 of 7 trials
    found, rows = attention.maps(model, data.eval), one_by_one(model, data)
    assert found.spatial is not None and found.received is not None
    spatial = np.stack([row["spatial_attention"] for row in rows])
    np.testing.assert_allclose(found.spatial, spatial.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.received, spatial.mean(axis=2), atol=1e-6)
    np.testing.assert_allclose(found.received.sum(axis=2), 1, atol=1e-6)
    for t in range(data.bins):
        for s in range(data.bins):
            both = [row for row in rows if row["seen"][t] and row["seen"][s]]
            expected = np.mean([row["temporal_attention"][:, t, s] for row in both], axis=0)
            np.testing.assert_allclose(found.temporal[:, t, s], expected, atol=1e-6)


def test_rates_are_the_networks_and_weigh_the_members() -> None:
    data = small_models.recording(gaps=True)
    first, second = small_models.models(data, members=2)
    alone = [np.stack([row["rates"] for row in one_by_one(m, data)]) for m in (first, second)]
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    np.testing.assert_allclose(inference.mean_rates([second], data.eval), alone[1] / 2, rtol=1e-5)
    weighted = [first._replace(weight=0.75), second._replace(weight=0.25)]
    expected = 0.75 * alone[0] + 0.25 * alone[1]
    np.testing.assert_allclose(inference.mean_rates(weighted, data.eval), expected, rtol=1e-5)


def test_silence_is_a_zero_in_the_input_and_nowhere_else() -> None:
    data = small_models.recording()
    quiet = attention.silence(data.eval, [0, 3])
    assert not quiet.heldin[:, :, [0, 3]].any() and data.eval.heldin[:, :, [0, 3]].any()
    np.testing.assert_array_equal(quiet.heldin[:, :, [1, 2]], data.eval.heldin[:, :, [1, 2]])
    np.testing.assert_array_equal(quiet.heldin_forward, data.eval.heldin_forward)
