"""Simulated recordings: a seed in, spikes with their true rates out.

Every simulation draws latents, turns them into rates and the rates into Poisson counts.
Rates are expected counts per bin: of a differential equation, the mean over its bin. Neurons are
held-in first, then held-out; bins are observed first, then forward.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.data.validation import as_counts
from stndt_jax.errors import UserError
from stndt_jax.types import Float, Int, NDArray

LORENZ_STEPS = 10  # Runge-Kutta steps in a bin
RNN_STEP_MS = 1.0  # Euler step
SPREAD = 0.4  # neurons' mean rates lie within this fraction of the asked mean


@dataclass(frozen=True)
class _Layout:
    """The shape of a recording, as every simulation is asked for it."""

    kind: str
    trials: int
    eval_trials: int
    bins: int
    bins_forward: int
    heldin: int
    heldout: int
    bin_ms: float
    conditions: int
    rate_hz: float

    def __post_init__(self) -> None:
        least = {"trials": 1, "eval_trials": 1, "bins": 1, "bins_forward": 0, "heldin": 1}
        for option, smallest in (least | {"heldout": 1, "conditions": 1}).items():
            value = getattr(self, option)
            if value < smallest:
                raise UserError(
                    f"{self.kind}: {option} is {value!r}; give a whole number from {smallest}"
                )
        for option in ("bin_ms", "rate_hz"):
            _positive(self.kind, option, getattr(self, option))
        if self.conditions > self.trials:
            raise UserError(
                f"{self.kind}: {self.conditions} conditions do not fit into {self.trials} training "
                "trials; raise trials"
            )

    @property
    def every(self) -> int:
        return self.trials + self.eval_trials

    @property
    def total_bins(self) -> int:
        return self.bins + self.bins_forward

    @property
    def neurons(self) -> int:
        return self.heldin + self.heldout


def make(kind: str, seed: int = 0, **options: Any) -> SpikeData:
    """Simulates a recording.

    Args:
        kind: `lorenz`, `rnn` or `reach`.
        seed: the same seed and options give the same recording, bit for bit.
        **options: keyword options of the function of that name.

    Raises:
        UserError: no such kind or option, or a value that makes no recording.
    """
    if kind not in KINDS:
        raise UserError(f"no simulation is called {kind!r}; take one of {', '.join(KINDS)}")
    known = [name for name in inspect.signature(KINDS[kind]).parameters if name != "seed"]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UserError(f"{kind}: no option {', '.join(unknown)}; there are {', '.join(known)}")
    return KINDS[kind](seed=seed, **options)


def lorenz(
    *,
    seed: int = 0,
    trials: int = 320,
    eval_trials: int = 80,
    bins: int = 50,
    bins_forward: int = 10,
    heldin: int = 24,
    heldout: int = 8,
    bin_ms: float = 20.0,
    conditions: int = 40,
    rate_hz: float = 15.0,
    modulation: float = 0.7,
    speed: float = 2.0,
) -> SpikeData:
    """A Lorenz system that drives neurons through a random linear readout and an exponential.

        dx = 10 (y - x),   dy = x (28 - z) - y,   dz = x y - (8/3) z      per unit of time

    A condition is an initial state on the attractor; its trials differ in their spikes only.
    Source: Sussillo et al. 2016 (LFADS); Ye and Pandarinath 2021 (NDT).

    Args:
        seed: of everything that is random.
        trials: training trials.
        eval_trials: evaluated trials.
        bins: observed bins.
        bins_forward: forward bins.
        heldin: held-in neurons.
        heldout: held-out neurons.
        bin_ms: bin width in ms.
        conditions: initial states.
        rate_hz: mean rate over neurons, bins and trials.
        modulation: standard deviation of a neuron's log-rate over time and trials.
        speed: units of the system's time in a second.

    Returns:
        The recording; its behavior is the three latents, each of zero mean and unit variance.

    Raises:
        UserError: a value that makes no recording.
    """
    layout = _Layout("lorenz", trials, eval_trials, bins, bins_forward, heldin, heldout, bin_ms,
                     conditions, rate_hz)  # fmt: skip
    _positive("lorenz", "modulation", modulation)
    _positive("lorenz", "speed", speed)
    rng = np.random.default_rng(seed)
    # Five units of time from any start lead onto the attractor.
    start_CD = rng.normal(size=(conditions, 3)) + np.array([0.0, 0.0, 25.0])
    start_CD = lorenz_path(start_CD, 500, 0.01)[:, -1]
    step = speed * bin_ms / 1000 / LORENZ_STEPS
    path = lorenz_path(start_CD, layout.total_bins * LORENZ_STEPS, step)
    latents_CTSD = path.reshape(conditions, layout.total_bins, LORENZ_STEPS, 3)
    latents_CTSD = (latents_CTSD - path.mean(axis=(0, 1))) / path.std(axis=(0, 1))
    rates_CTN = _exponential_rates(rng, latents_CTSD, layout, modulation)
    condition_R = _conditions(rng, layout)
    behavior_RTD = latents_CTSD.mean(axis=2)[condition_R]
    return _record(rng, layout, rates_CTN[condition_R], behavior_RTD, condition_R)


def rnn(
    *,
    seed: int = 0,
    trials: int = 320,
    eval_trials: int = 80,
    bins: int = 50,
    bins_forward: int = 10,
    heldin: int = 36,
    heldout: int = 12,
    bin_ms: float = 20.0,
    conditions: int = 40,
    rate_hz: float = 15.0,
    gain: float = 2.0,
    units: int = 50,
    tau_ms: float = 25.0,
) -> SpikeData:
    """A chaotic network of rate units, some of which are observed as Poisson neurons.

        tau dx/dt = -x + gain W tanh(x),   W normal with variance 1 / units
        rate of a neuron = rate_hz (1 + tanh(x))

    A condition is an initial state; its trials differ in their spikes only. Chaos begins at
    a gain of 1 and makes for faster changes with more of it.
    Source: Sussillo et al. 2016 (LFADS), with gains of 1.5 and 2.5.

    Args:
        seed: of everything that is random.
        trials: training trials.
        eval_trials: evaluated trials.
        bins: observed bins.
        bins_forward: forward bins.
        heldin: held-in neurons.
        heldout: held-out neurons.
        bin_ms: bin width in ms, in whole ms.
        conditions: initial states.
        rate_hz: rate of a unit at rest; its rate lies between 0 and twice that.
        gain: scale of the connections.
        units: units of the network, of which the neurons are a random choice.
        tau_ms: time constant of a unit in ms.

    Returns:
        The recording; its behavior is the first three principal components of tanh(x).

    Raises:
        UserError: a value that makes no recording.
    """
    layout = _Layout("rnn", trials, eval_trials, bins, bins_forward, heldin, heldout, bin_ms,
                     conditions, rate_hz)  # fmt: skip
    _positive("rnn", "gain", gain)
    if not tau_ms >= 5 * RNN_STEP_MS:
        raise UserError(f"rnn: tau_ms is {tau_ms}; give 5 ms or more, the step is {RNN_STEP_MS} ms")
    if bin_ms != round(bin_ms):
        raise UserError(f"rnn: bin_ms is {bin_ms}; give whole ms, the step is {RNN_STEP_MS} ms")
    if units < layout.neurons:
        raise UserError(
            f"rnn: {layout.neurons} neurons cannot be observed in units = {units}; raise units"
        )
    rng = np.random.default_rng(seed)
    weights_UU = rng.normal(size=(units, units)) * gain / np.sqrt(units)
    steps = round(bin_ms / RNN_STEP_MS)
    start_CU = rng.normal(size=(conditions, units))
    start_CU = rnn_path(weights_UU, start_CU, 20 * steps, RNN_STEP_MS / tau_ms)[:, -1]
    path = rnn_path(weights_UU, start_CU, layout.total_bins * steps, RNN_STEP_MS / tau_ms)
    activity_CTU = np.tanh(path).reshape(conditions, -1, steps, units).mean(axis=2)
    observed_N = rng.permutation(units)[: layout.neurons]
    rates_CTN = rate_hz * bin_ms / 1000 * (1 + activity_CTU[..., observed_N])
    centred = activity_CTU - activity_CTU.mean(axis=(0, 1))
    components = np.linalg.svd(centred.reshape(-1, units), full_matrices=False)[2][:3]
    condition_R = _conditions(rng, layout)
    behavior_RTD = (centred @ components.T)[condition_R]
    return _record(rng, layout, rates_CTN[condition_R], behavior_RTD, condition_R)


def reach(
    *,
    seed: int = 0,
    trials: int = 300,
    eval_trials: int = 80,
    bins: int = 50,
    bins_forward: int = 10,
    heldin: int = 32,
    heldout: int = 16,
    bin_ms: float = 20.0,
    directions: int = 8,
    curved: bool = True,
    rate_hz: float = 12.0,
    modulation: float = 1.0,
    variability: float = 1.0,
) -> SpikeData:
    """Delayed reaches: a preparatory state that movement turns into rotations.

    With the target at angle theta, u = (cos theta, sin theta), time s since movement onset in
    units of the movement's duration, R the rotation matrix, b a bell over the movement and p a
    plateau that ends with its onset, the latents are

        p(s) u,  p(s) k          preparation: where to, and how curved
        a b(s) R((k + w) s') u   two planes that rotate in opposite senses, s' = s - 1/2;
        a b(s) R((k - w) s') u   their mean is a b(s) cos(w s') R(k s') u, the hand's velocity
        b(s)                     movement, wherever it goes

    with k = 0 for a straight reach. Every trial has its own onset, duration, vigour a,
    direction theta and slow noise on all latents. The condition does not determine these; the
    spikes of other neurons tell.
    Source of the picture: Churchland et al. 2012; Kaufman et al. 2016.

    Args:
        seed: of everything that is random.
        trials: training trials.
        eval_trials: evaluated trials.
        bins: observed bins.
        bins_forward: forward bins.
        heldin: held-in neurons.
        heldout: held-out neurons.
        bin_ms: bin width in ms.
        directions: targets on a circle.
        curved: reach every target also along a curve, which doubles the conditions.
        rate_hz: mean rate over neurons, bins and trials.
        modulation: standard deviation of a neuron's log-rate over time and trials.
        variability: scale of all that differs between trials of a condition; 0 for none.

    Returns:
        The recording; its behavior is the hand's velocity in mm/s.

    Raises:
        UserError: a value that makes no recording.
    """
    conditions = directions * (2 if curved else 1)
    layout = _Layout("reach", trials, eval_trials, bins, bins_forward, heldin, heldout, bin_ms,
                     conditions, rate_hz)  # fmt: skip
    _positive("reach", "modulation", modulation)
    if not variability >= 0:
        raise UserError(f"reach: variability is {variability}; give 0 or more")
    rng = np.random.default_rng(seed)
    condition_R = _conditions(rng, layout)
    direction_R, curve_R = condition_R % directions, condition_R // directions
    latents_RTD = _reach_latents(rng, layout, direction_R / directions, curve_R, variability)
    velocity_RTD = 600.0 * (latents_RTD[..., 3:5] + latents_RTD[..., 5:7]) / 2
    # Equal shares of the log-rate, but nothing for a latent that does not move, as k may not.
    scaled_RTD = latents_RTD / np.maximum(latents_RTD.std(axis=(0, 1)), 1e-3)
    rates_RTN = _exponential_rates(
        rng, scaled_RTD[:, :, None], layout, modulation, limit=2 * modulation
    )
    return _record(rng, layout, rates_RTN, velocity_RTD, condition_R)


KINDS: dict[str, Callable[..., SpikeData]] = {"lorenz": lorenz, "rnn": rnn, "reach": reach}


def lorenz_path(
    start_CD: Float[NDArray, "C 3"], steps: int, step: float
) -> Float[NDArray, "C steps 3"]:
    """Lorenz states after each step of the classical fourth-order Runge-Kutta method."""
    x = start_CD
    path = np.empty((len(x), steps, 3))
    for i in range(steps):
        k1 = _lorenz_flow(x)
        k2 = _lorenz_flow(x + step / 2 * k1)
        k3 = _lorenz_flow(x + step / 2 * k2)
        k4 = _lorenz_flow(x + step * k3)
        x = x + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        path[:, i] = x
    return path


def rnn_path(
    weights_UU: Float[NDArray, "U U"], start_CU: Float[NDArray, "C U"], steps: int, step: float
) -> Float[NDArray, "C steps U"]:
    """States of the network after each Euler step, whose length is in time constants.

    The weights, gain included, lead to a unit (row) from every unit.
    """
    x = start_CU
    path = np.empty((len(x), steps, x.shape[1]))
    for i in range(steps):
        x = x + step * (np.tanh(x) @ weights_UU.T - x)
        path[:, i] = x
    return path


def _lorenz_flow(state_CD: NDArray) -> NDArray:
    x, y, z = state_CD[:, 0], state_CD[:, 1], state_CD[:, 2]
    return np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=1)


def _reach_latents(
    rng: np.random.Generator,
    layout: _Layout,
    turn_R: NDArray,
    curved_R: NDArray,
    variability: float,
) -> Float[NDArray, "R T 8"]:
    """The latents of `reach`: 3 of preparation, two planes, 1 of movement as such."""

    def varied(spread: float) -> NDArray:
        return variability * spread * rng.normal(size=(layout.every, 1))

    span = layout.bins * layout.bin_ms  # observed time; the movement's times scale with it
    time_T = (np.arange(layout.total_bins) + 0.5) * layout.bin_ms / span
    onset_R1 = 0.6 + varied(0.08)
    duration_R1 = 0.5 * np.exp(varied(0.2))
    vigour_R1 = np.exp(varied(0.25))
    theta_R1 = 2 * np.pi * turn_R[:, None] + varied(0.25)
    bend_R1 = 2.5 * curved_R[:, None] + varied(0.4)
    s_RT = (time_T - onset_R1) / duration_R1
    bell_RT = np.exp(-0.5 * ((s_RT - 0.5) / 0.22) ** 2)
    # Preparation starts with the target at a tenth of the time and ends with the movement.
    plateau_RT = _sigmoid((time_T - 0.1) / 0.03) * _sigmoid(-s_RT / 0.08)
    rotation = 2.0  # w
    angles_RT = [theta_R1 + (bend_R1 + w) * (s_RT - 0.5) for w in (rotation, -rotation)]
    planes = [turn(angle_RT) for angle_RT in angles_RT for turn in (np.cos, np.sin)]
    latents_RTD = np.stack(
        [plateau_RT * x for x in (np.cos(theta_R1), np.sin(theta_R1), bend_R1 / 2.5)]
        + [vigour_R1 * bell_RT * x for x in planes]
        + [bell_RT],
        axis=-1,
    )
    # Noise that stays for a tenth of the observed time, an autoregression of first order.
    keep = np.exp(-1 / (0.1 * layout.bins))
    drive_RTD = rng.normal(size=latents_RTD.shape)
    noise_RTD = np.empty_like(drive_RTD)
    noise_RTD[:, 0] = drive_RTD[:, 0]
    for t in range(1, layout.total_bins):
        noise_RTD[:, t] = keep * noise_RTD[:, t - 1] + np.sqrt(1 - keep**2) * drive_RTD[:, t]
    return latents_RTD + 0.05 * variability * noise_RTD


def _sigmoid(x: NDArray) -> NDArray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _exponential_rates(
    rng: np.random.Generator,
    latents_RTSD: Float[NDArray, "R T S D"],
    layout: _Layout,
    modulation: float,
    limit: float = np.inf,
) -> Float[NDArray, "R T N"]:
    """Expected counts per bin from a random linear readout of latents and an exponential.

    The latents are given at instants S within every bin, over which the rate is averaged.
    `modulation` is the standard deviation of every neuron's log-rate; `limit` is how far it
    may come from its mean, approached smoothly.
    """
    weights_DN = rng.normal(size=(latents_RTSD.shape[-1], layout.neurons))
    drive_RTSN = latents_RTSD @ weights_DN
    drive_RTSN -= drive_RTSN.mean(axis=(0, 1, 2))
    drive_RTSN *= modulation / drive_RTSN.std(axis=(0, 1, 2))
    if limit < np.inf:
        drive_RTSN = limit * np.tanh(drive_RTSN / limit)
    shape_RTN = np.exp(drive_RTSN).mean(axis=2)
    share_N = rng.uniform(1 - SPREAD, 1 + SPREAD, layout.neurons)
    mean_N = layout.rate_hz * layout.bin_ms / 1000 * share_N / share_N.mean()
    return shape_RTN / shape_RTN.mean(axis=(0, 1)) * mean_N


def _conditions(rng: np.random.Generator, layout: _Layout) -> Int[NDArray, " R"]:
    """A condition for every trial, training trials first; all about equally often in both."""
    parts = [np.arange(n) % layout.conditions for n in (layout.trials, layout.eval_trials)]
    return np.concatenate([rng.permutation(part) for part in parts]).astype(np.int32)


def _record(
    rng: np.random.Generator,
    layout: _Layout,
    rates_RTN: Float[NDArray, "R T N"],
    behavior_RTD: Float[NDArray, "R T D"],
    condition_R: Int[NDArray, " R"],
) -> SpikeData:
    """Draws the spikes and cuts everything into splits, blocks and conditions."""
    rates_RTN = rates_RTN.astype(np.float32)
    counts_RTN = rng.poisson(rates_RTN)
    seen, n = layout.bins, layout.heldin

    def split(rows: slice) -> Trials:
        counts = counts_RTN[rows]
        return Trials(
            heldin=as_counts(counts[:, :seen, :n]),
            heldout=as_counts(counts[:, :seen, n:]),
            heldin_forward=as_counts(counts[:, seen:, :n]),
            heldout_forward=as_counts(counts[:, seen:, n:]),
            behavior=behavior_RTD[rows, :seen].astype(np.float32),
            conditions=condition_R[rows],
            rates=rates_RTN[rows],
            recorded=None,
        )

    psth_CTN = [rates_RTN[condition_R == c, :seen].mean(axis=0) for c in range(layout.conditions)]
    return SpikeData(
        train=split(slice(layout.trials)),
        eval=split(slice(layout.trials, None)),
        name=layout.kind,
        bin_ms=float(layout.bin_ms),
        psth=np.stack(psth_CTN).astype(np.float64),
    )


def _positive(kind: str, option: str, value: float) -> None:
    if not 0 < value < np.inf:
        raise UserError(f"{kind}: {option} is {value}; give a positive number")
