"""Integrated gradients: they add up, and they are the attributions that a Jacobian gives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_models

from stndt_jax.interpret import attention, integrated_gradients
from stndt_jax.training import step

SMOOTH = {"model": {"activation": "gelu", "layers": 1}}


FACTORS = {**small_models.FACTORS, "model": small_models.FACTORS["model"] | SMOOTH["model"]}


@pytest.mark.parametrize(
    ("gaps", "changes"),
    [
        pytest.param(False, SMOOTH, marks=pytest.mark.long),
        (True, SMOOTH),
        (True, FACTORS),
    ],
    ids=str,
)
def test_attributions_add_up_to_the_change_from_silence(
    gaps: bool, changes: dict[str, dict[str, object]]
) -> None:
    data = small_models.recording(gaps=gaps)
    (model,) = small_models.models(data, changes=changes)
    found = integrated_gradients.attribute(model, data.eval, steps=32, sign_samples=3)
    assert found.attributions.shape == (21, 4) and found.change.shape == (21,)
    assert np.std(found.change) > 0.01
    np.testing.assert_allclose(found.attributions.sum(axis=1), found.change, atol=2e-3)
    assert found.error < 0.01
    coarse = integrated_gradients.attribute(model, data.eval, steps=1, sign_samples=3)
    assert coarse.error > 2 * found.error


def test_importance_is_the_mean_square_over_all_heldout_bins() -> None:
    data = small_models.recording()
    (model,) = small_models.models(data, changes=SMOOTH)
    arch, params, hyper = model.trained.arch, model.params("cobps"), model.hyper
    x_RTN = jnp.asarray(data.eval.counts(data.bins_forward, data.heldout))
    x_RTN = jnp.where(jnp.arange(data.neurons) < data.heldin, x_RTN, 0).at[:, 6:].set(0)
    x_RTN = x_RTN.astype(jnp.float32)

    def outputs(x_TN: jax.Array) -> jax.Array:
        z, _ = arch.network.apply({"params": params}, x_TN[None], step.forward_hyper(arch, hyper))
        return z[0, :6, 4:].ravel()

    jacobian = jax.jit(jax.vmap(jax.jacrev(outputs)))
    parts = (np.arange(64) + 0.5) / 64
    mean = sum(np.asarray(jacobian(part * x_RTN), float) for part in parts) / 64
    attributions = (mean * np.asarray(x_RTN)[:, None]).sum(axis=2)[
        ..., :4
    ]  # trials, outputs, neurons
    expected = np.sqrt(np.mean(attributions**2, axis=(0, 1)))
    found = integrated_gradients.attribute(model, data.eval, sign_samples=400).importance
    np.testing.assert_allclose(found, expected, rtol=0.06)


def test_a_silent_neuron_has_no_attribution() -> None:
    data = small_models.recording()
    (model,) = small_models.models(data, changes=SMOOTH)
    found = integrated_gradients.attribute(model, attention.silence(data.eval, [2]), sign_samples=1)
    assert found.importance[2] == 0 and (found.importance[[0, 1, 3]] > 0).all()
