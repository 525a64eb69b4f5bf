"""Integrated gradients: how much of the held-out log-rates is attributed to a neuron's spikes.

Along the straight path from silence (no spikes) to a trial's counts x, the change of any function
f of the input splits into attributions to its entries::

    attribution_tn = x_tn * integral over a in [0, 1] of df/dx_tn (a x)
    sum over t, n of attribution_tn = f(x) - f(0)

There is one f for every held-out neuron and bin. Instead of one gradient for each of them, f is
their sum with random signs, over the square root of their number: the mean over signs of a squared
attribution is its mean square over held-out neurons and bins. The attribution to a neuron is the
sum over its bins; its importance is the root mean square over trials and sign samples.

Source: M. Sundararajan, A. Taly and Q. Yan, Axiomatic attribution for deep networks, ICML 2017.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax.config.schema import Hyper
from stndt_jax.data.trials import Trials, evenly_spaced
from stndt_jax.evaluation import inference
from stndt_jax.training import step
from stndt_jax.training.restore import SelectedBy, TrainedModel
from stndt_jax.types import Array, Bool, Float, NDArray, Params, UInt

# Trials in a batch times sign samples: each keeps all activations of a backward pass.
_BATCH = 32


class Attributions(NamedTuple):
    """Attributions to held-in neurons: one row per trial and sign sample.

    Attributes:
        attributions: to every neuron, of the signed sum of log-rates, in nats.
        change: the difference of that sum between the trial and silence, to which the
            attributions add up, but for the error of the quadrature.
    """

    attributions: Float[NDArray, "S N_in"]
    change: Float[NDArray, " S"]

    @property
    def importance(self) -> Float[NDArray, " N_in"]:
        """Root mean square change of a held-out log-rate that is due to a neuron, in nats."""
        return np.sqrt(np.mean(self.attributions**2, axis=0))

    @property
    def error(self) -> float:
        """Root mean square error of the quadrature, relative to that of the change."""
        missing = self.attributions.sum(axis=1) - self.change
        return float(np.sqrt(np.mean(missing**2) / max(np.mean(self.change**2), 1e-30)))


def attribute(
    model: TrainedModel,
    trials: Trials,
    *,
    steps: int = 16,
    sign_samples: int = 2,
    max_trials: int = 64,
    seed: int = 0,
    select: SelectedBy = "cobps",
) -> Attributions:
    """Attributes the log-rates of held-out neurons in observed bins to held-in neurons.

    If the recording has no held-out neurons, the log-rates are those of the held-in neurons.

    Args:
        model: the member.
        trials: whose held-in counts are the input.
        steps: points of the Gauss-Legendre quadrature along the path.
        sign_samples: samples of random signs for every trial.
        max_trials: trials to use; if there are more, evenly spaced ones.
        seed: of the signs.
        select: which of the member's weights.
    """
    arch, params, hyper = model.trained.arch, model.params(select), model.hyper
    run = inference.program(_integrate, arch, steps, sign_samples)
    chosen = trials.subset(evenly_spaced(len(trials), max_trials))
    attributions, change = [], []
    batches = inference.batches(model, chosen, max(1, _BATCH // sign_samples))
    for number, (counts_BTN, has_count_BTN, real_B) in enumerate(batches):
        key = jax.random.fold_in(jax.random.key(seed), number)
        attributions_SBN, change_SB = run(params, hyper, counts_BTN, has_count_BTN, key)
        attributions.append(
            np.asarray(attributions_SBN, float)[:, real_B].reshape(-1, arch.dims.heldin)
        )
        change.append(np.asarray(change_SB, float)[:, real_B].reshape(-1))
    return Attributions(np.concatenate(attributions), np.concatenate(change))


def _integrate(
    arch: step.Arch,
    steps: int,
    sign_samples: int,
    params: Params,
    hyper: Hyper,
    counts_BTN: UInt[Array, "B T N"],
    has_count_BTN: Bool[Array, "B T N"],
    key: Array,
) -> tuple[Float[Array, "S B N_in"], Float[Array, "S B"]]:
    """Attributions to neurons and the change, for every sign sample and trial of a batch."""
    dims = arch.dims
    x_BTN, recorded_BTN = step.clean_input(arch, counts_BTN, has_count_BTN)
    first = dims.heldin if dims.heldout else 0

    def log_rates(x_BTN: Array) -> Array:
        z_BTN, _ = arch.network.apply(
            {"params": params}, x_BTN, step.forward_hyper(arch, hyper), recorded_BTN
        )
        return z_BTN[:, : dims.bins_observed, first:]

    at_end, at_start = log_rates(x_BTN), log_rates(jnp.zeros_like(x_BTN))
    signs = jax.random.rademacher(key, (sign_samples, *at_end.shape), jnp.float32)
    signs = signs / math.sqrt(at_end.shape[1] * at_end.shape[2])

    def add(total: Array, node: tuple[Array, Array]) -> tuple[Array, None]:
        position, weight = node
        _, pullback = jax.vjp(log_rates, position * x_BTN)
        (gradient,) = jax.vmap(pullback)(signs)
        return total + weight * gradient, None

    # Gauss-Legendre nodes are dense near silence, where the gradient changes fastest.
    positions, weights = np.polynomial.legendre.leggauss(steps)
    positions, weights = (positions + 1) / 2, weights / 2
    if arch.model.input == "standardised":
        # The input is a root of the counts, whose slope is infinite at silence. With the squares
        # of the nodes as positions, the integrand is smooth in the nodes.
        positions, weights = positions**2, 2 * positions * weights
    nodes = (jnp.asarray(positions, jnp.float32), jnp.asarray(weights, jnp.float32))
    total, _ = jax.lax.scan(add, jnp.zeros((sign_samples, *x_BTN.shape)), nodes)
    attributions_SBN = jnp.sum(total * x_BTN[None], axis=2)[..., : dims.heldin]
    return attributions_SBN, jnp.sum(signs * (at_end - at_start)[None], axis=(2, 3))
