"""Integrated gradients: how much of the held-out log-rates a neuron's spikes account for.

Along the straight path from silence (no spike) to a trial's counts x, the change of any function
f of the input splits into shares of its entries::

    share_tn = x_tn * integral over a in [0, 1] of df/dx_tn (a x),    sum share = f(x) - f(0)

There is one f for every held-out neuron and bin. Rather than one gradient for each of them, f is
their sum with random signs, over the square root of their number: the mean square of a share over
signs is its mean square over held-out neurons and bins. A neuron's share is the sum over its bins,
its importance the root mean square over trials and signs.

Source: M. Sundararajan, A. Taly and Q. Yan, Axiomatic attribution for deep networks, ICML 2017.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax.config.schema import Hyper
from stndt_jax.data.trials import Trials
from stndt_jax.evaluation.evaluate import Select, TrainedModel
from stndt_jax.interpret import attention
from stndt_jax.parallel import lifts
from stndt_jax.training import step
from stndt_jax.types import Array, Bool, Float, NDArray, Params, UInt

# Trials in a batch, times probes: every one keeps all activations of a backward pass.
_BATCH = 32


class Attributions(NamedTuple):
    """What integrated gradients say of held-in neurons.

    Attributes:
        shares: of every trial's and draw of signs' sum of log-rates, in nats.
        change: that sum's difference between the trial and silence, which the shares add up to
            but for the error of the integral.
    """

    shares: Float[NDArray, "S N_in"]
    change: Float[NDArray, " S"]

    @property
    def importance(self) -> Float[NDArray, " N_in"]:
        """Root mean square change of a held-out log-rate that is due to a neuron, in nats."""
        return np.sqrt(np.mean(self.shares**2, axis=0))

    @property
    def error(self) -> float:
        """What the integral misses, relative to the change, both as root mean squares."""
        missed = self.shares.sum(axis=1) - self.change
        return float(np.sqrt(np.mean(missed**2) / max(np.mean(self.change**2), 1e-30)))


def integrated(
    model: TrainedModel,
    trials: Trials,
    *,
    steps: int = 16,
    draws: int = 2,
    most: int = 64,
    seed: int = 0,
    select: Select = "cobps",
) -> Attributions:
    """Shares of held-in neurons in the log-rates of held-out ones, observed bins.

    A recording without held-out neurons has its held-in ones predicted in their place.

    Args:
        model: the member.
        trials: whose held-in counts it is shown.
        steps: points of the path, those of Gauss and Legendre.
        draws: of random signs for every trial.
        most: trials to use; of more, this many evenly spaced ones.
        seed: of the signs.
        select: which of the member's weights.
    """
    chosen = attention.spaced(len(trials), most)
    arch, (params, hyper) = model.trained.arch, attention.weights(model, select)
    run = _program(step.inference(arch), steps, draws)
    shares, change = [], []
    batches = attention.batches(model, attention.pick(trials, chosen), max(1, _BATCH // draws))
    for number, (counts_BTN, known_BTN, real_B) in enumerate(batches):
        key = jax.random.fold_in(jax.random.key(seed), number)
        shares_PBN, change_PB = run(params, hyper, counts_BTN, known_BTN, key)
        shares.append(np.asarray(shares_PBN, float)[:, real_B].reshape(-1, arch.dims.heldin))
        change.append(np.asarray(change_PB, float)[:, real_B].reshape(-1))
    return Attributions(np.concatenate(shares), np.concatenate(change))


@functools.cache
def _program(arch: step.Arch, steps: int, draws: int) -> Any:
    return lifts.compiled(functools.partial(_integrate, arch, steps, draws))


def _integrate(
    arch: step.Arch,
    steps: int,
    draws: int,
    params: Params,
    hyper: Hyper,
    counts_BTN: UInt[Array, "B T N"],
    known_BTN: Bool[Array, "B T N"],
    key: Array,
) -> tuple[Float[Array, "P B N_in"], Float[Array, "P B"]]:
    dims = arch.dims
    x_BTN, attendable_BT = attention.clean(arch, counts_BTN, known_BTN)
    first = dims.heldin if dims.heldout else 0

    def outputs(x_BTN: Array) -> Array:
        z_BTN, _ = arch.network.apply(
            {"params": params}, x_BTN, step.forward_hyper(hyper), attendable_BT
        )
        return z_BTN[:, : dims.bins_observed, first:]

    at_end, at_start = outputs(x_BTN), outputs(jnp.zeros_like(x_BTN))
    signs = jax.random.rademacher(key, (draws, *at_end.shape), jnp.float32)
    signs = signs / math.sqrt(at_end.shape[1] * at_end.shape[2])

    def add(total: Array, point: tuple[Array, Array]) -> tuple[Array, None]:
        place, weight = point
        _, pull = jax.vjp(outputs, place * x_BTN)
        (gradient,) = jax.vmap(pull)(signs)
        return total + weight * gradient, None

    # More of their points lie near silence, where the gradient turns fastest.
    places, weights = np.polynomial.legendre.leggauss(steps)
    points = (jnp.asarray((places + 1) / 2, jnp.float32), jnp.asarray(weights / 2, jnp.float32))
    total, _ = jax.lax.scan(add, jnp.zeros((draws, *x_BTN.shape)), points)
    shares_PBN = jnp.sum(total * x_BTN[None], axis=2)[..., : dims.heldin]
    return shares_PBN, jnp.sum(signs * (at_end - at_start)[None], axis=(2, 3))
