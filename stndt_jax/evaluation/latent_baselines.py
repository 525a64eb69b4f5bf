"""Baselines with a latent state of few dimensions: GPFA and a linear dynamical system.

Both are fitted without supervision to the square roots of held-in counts, whose variance depends
little on their mean. A Poisson regression, fitted to the training trials, then predicts every
neuron's rate from the posterior means of the latents, which do not depend on held-out neurons. The
benchmark's own baselines of these names do the same.

GPFA comes from elephant, the linear dynamical system from dynamax; both are extras of this package
and are imported only when they are used.

Sources: B. Yu et al., Gaussian-process factor analysis, J. Neurophysiology 2009; F. Pei et al.,
Neural Latents Benchmark '21, NeurIPS 2021.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from stndt_jax.console import progress
from stndt_jax.console.lines import counted
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError, install
from stndt_jax.evaluation import baselines
from stndt_jax.types import Float, NDArray


def gpfa(data: SpikeData, *, latents: int = 12, iterations: int = 50) -> dict[str, NDArray]:
    """Rates from Gaussian-process factor analysis.

    Counts are summed in bins of about 20 ms, where GPFA's Gaussian noise is a better model; the
    latents are interpolated linearly between the middles of these bins.

    Args:
        data: the recording.
        latents: dimensions of the latent state.
        iterations: of expectation maximisation, at most.

    Returns:
        A submission, as `baselines.smoothing` returns it.

    Raises:
        UserError: elephant is not installed, or there are fewer held-in neurons than latents.
    """
    try:
        from elephant.gpfa import gpfa_core
    except ModuleNotFoundError as error:
        raise UserError(f"the GPFA baseline needs elephant ({error}); {install('gpfa')}") from error
    _check(data, latents, "gpfa")
    width = max(1, round(20.0 / data.bin_ms))
    T = data.bins_observed
    edges = np.arange(0, T, width)
    x_RTN = np.sqrt(np.add.reduceat(_heldin(data), edges, axis=1))
    middles = (edges + np.minimum(edges + width, T) - 1) / 2
    # A neuron without a spike has no variance, which the Gaussian noise model divides by.
    used_N = x_RTN[: len(data.train)].std(axis=(0, 1)) > 0

    def sequences(x_RTN: NDArray) -> NDArray:
        rows = [(x.shape[0], np.ascontiguousarray(x[:, used_N].T)) for x in x_RTN]
        return np.array(rows, dtype=[("T", int), ("y", object)])

    params, _ = gpfa_core.fit(
        sequences(x_RTN[: len(data.train)]),
        x_dim=latents,
        bin_width=width * data.bin_ms,
        em_max_iters=iterations,
    )
    found, _ = gpfa_core.exact_inference_with_ll(sequences(x_RTN), params, get_ll=False)
    coarse_RTD = np.stack([found[r]["latent_variable"].T for r in range(len(x_RTN))])
    at = np.interp(np.arange(T), middles, np.arange(len(middles)))
    below = np.floor(at).astype(int)
    above, share = np.minimum(below + 1, len(middles) - 1), (at - below)[None, :, None]
    return _read_out(data, (1 - share) * coarse_RTD[:, below] + share * coarse_RTD[:, above])


def lds(
    data: SpikeData, *, latents: int = 12, iterations: int = 50, seed: int = 0
) -> dict[str, NDArray]:
    """Rates from a linear dynamical system with Gaussian noise, fitted by EM.

    `z[t+1] = A z[t] + noise`, `sqrt(counts)[t] = C z[t] + d + noise`. C starts at the principal
    axes of the smoothed counts, A near the identity.

    Args:
        data: the recording.
        latents: dimensions of the latent state z.
        iterations: of expectation maximisation.
        seed: of the rest of the initialisation.

    Returns:
        A submission, as `baselines.smoothing` returns it.

    Raises:
        UserError: dynamax is not installed, or there are fewer held-in neurons than latents.
    """
    model_class = _linear_gaussian()
    import jax
    import jax.numpy as jnp

    _check(data, latents, "lds")
    x_RTN = np.sqrt(_heldin(data))
    # A silent neuron has no noise, and its covariance no inverse.
    x_RTN = x_RTN[..., x_RTN[: len(data.train)].std(axis=(0, 1)) > 0]
    N = x_RTN.shape[-1]
    if not N:
        raise UserError(
            f"{data.name}: no held-in neuron varies in the training trials; lds needs one"
        )
    mean_N = x_RTN[: len(data.train)].mean(axis=(0, 1))
    smooth_SN = gaussian_filter1d(x_RTN[: len(data.train)] - mean_N, 30 / data.bin_ms, axis=1)
    smooth_SN = smooth_SN.reshape(-1, N)
    _, axes = np.linalg.eigh(smooth_SN.T @ smooth_SN)
    c_ND = axes[:, ::-1][:, :latents]
    scale = np.sqrt(np.var(smooth_SN @ c_ND, axis=0) + 1e-6)
    spread_N = x_RTN[: len(data.train)].var(axis=(0, 1)) + 1e-3
    model = model_class(latents, N, has_emissions_bias=True)
    with jax.enable_x64(True):  # covariances stay positive definite for more iterations
        start, properties = model.initialize(
            jax.random.key(seed),
            initial_mean=jnp.zeros(latents),
            initial_covariance=jnp.eye(latents),
            dynamics_weights=0.98 * jnp.eye(latents),
            dynamics_covariance=0.04 * jnp.eye(latents),
            emission_weights=jnp.asarray(c_ND * scale),
            emission_bias=jnp.asarray(mean_N),
            emission_covariance=jnp.diag(jnp.asarray(spread_N)),
        )
        x = jnp.asarray(x_RTN)

        @jax.jit
        def iterate(params: Any, x_RTN: Any) -> Any:
            sums, _ = jax.vmap(lambda x_TN: model.e_step(params, x_TN))(x_RTN)
            params, _ = model.m_step(params, properties, sums, None)
            # From several trials dynamax 1.0 estimates an initial covariance that need not be
            # positive definite: the first state keeps its broad prior. In the other covariances
            # rounding errors that are not symmetric grow tenfold in each iteration, and the
            # variance of a nearly silent neuron vanishes.
            return params._replace(
                initial=start.initial,
                dynamics=params.dynamics._replace(cov=_positive(params.dynamics.cov, 0.0)),
                emissions=params.emissions._replace(cov=_positive(params.emissions.cov, 1e-4)),
            )

        params = start
        for _ in progress.each(range(iterations), "iterations"):
            params = jax.block_until_ready(iterate(params, x[: len(data.train)]))
        smoother = jax.jit(lambda x_TN: model.smoother(params, x_TN).smoothed_means)
        z_RTD = np.asarray(jax.lax.map(smoother, x))
    if not np.isfinite(z_RTD).all():
        raise UserError(
            f"the lds baseline did not converge on {data.name} with {counted(latents, 'latent')}; "
            f"give fewer (--latents)"
        )
    return _read_out(data, z_RTD)


def _linear_gaussian() -> Any:
    """Dynamax's class of linear dynamical systems.

    Raises:
        UserError: dynamax is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Of what dynamax imports from JAX.
            warnings.simplefilter("ignore", DeprecationWarning)
            from dynamax.linear_gaussian_ssm import LinearGaussianSSM
    except ModuleNotFoundError as error:
        raise UserError(f"the LDS baseline needs dynamax ({error}); {install('lds')}") from error
    return LinearGaussianSSM


def _positive(cov: Any, least: float) -> Any:
    """A covariance made symmetric, with ``least`` added to its diagonal."""
    import jax.numpy as jnp

    return (cov + cov.T) / 2 + least * jnp.eye(len(cov))


def _heldin(data: SpikeData) -> Float[NDArray, "R T N"]:
    """Observed held-in counts of all trials, training first, 0 where there is none."""
    return np.concatenate([data.train.heldin, data.eval.heldin]).astype(float)


def _check(data: SpikeData, latents: int, name: str) -> None:
    if not 0 < latents <= data.heldin:
        raise UserError(
            f"latents of the {name} baseline is {latents}; it must be between 1 and the "
            f"{data.heldin} held-in neurons of {data.name}"
        )


def _read_out(data: SpikeData, z_RTD: NDArray) -> dict[str, NDArray]:
    """Poisson regression of every neuron on the latents, fitted to the training trials.

    In forward bins the rate of the last observed bin is held, as in `baselines.smoothing`.
    """
    train = len(data.train)
    centre, spread = z_RTD[:train].mean(axis=(0, 1)), z_RTD[:train].std(axis=(0, 1)) + 1e-9
    z_RTD = (z_RTD - centre) / spread
    T, N = data.bins_observed, data.heldin
    counts_RTN = data.train.counts(data.bins_forward, data.heldout)[:, :T].astype(float)
    known_RTN = data.train.has_count(data.bins_forward, data.heldout)[:, :T]
    model = baselines.regress(z_RTD[:train], counts_RTN, known_RTN, alpha=1e-3)
    rates: dict[str, NDArray] = {}
    for split, z in (("train", z_RTD[:train]), ("eval", z_RTD[train:])):
        rates_RTN = model.rates(z)
        for block, place in (("heldin", np.s_[:, :, :N]), ("heldout", np.s_[:, :, N:])):
            rates[f"{split}_rates_{block}"] = rates_RTN[place]
            if data.bins_forward:
                held = np.repeat(rates_RTN[place][:, -1:], data.bins_forward, axis=1)
                rates[f"{split}_rates_{block}_forward"] = held
    return rates
