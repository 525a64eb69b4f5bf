"""Simulated recordings: spikes with their true rates, from a seed.

Every simulation draws latent states, turns them into rates, and draws Poisson counts. Rates are
expected counts per bin; for a differential equation, the mean over the bin. Neurons are held-in
first, then held-out; bins are observed first, then forward.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

import numpy as np

from stndt_jax.data.trials import BLOCKS, SpikeData, Trials, block_slices
from stndt_jax.data.validation import as_counts
from stndt_jax.errors import UserError, checked_whole, is_number
from stndt_jax.types import Float, Int, NDArray

LORENZ_STEPS = 10  # Runge-Kutta steps in a bin
RNN_STEP_MS = 1.0  # Euler step
RATE_SPREAD = 0.4  # a neuron's mean rate differs by at most this fraction from the overall mean


class Shape(TypedDict, total=False):
    """The shape of a recording: options that all simulations have.

    Attributes:
      trials: training trials.
      eval_trials: evaluated trials.
      bins: observed bins.
      bins_forward: forward bins.
      heldin: held-in neurons.
      heldout: held-out neurons.
      bin_ms: bin width, ms.
      rate_hz: mean rate over neurons, bins and trials; of ``rnn``, the rate of a unit at rest.
    """

    trials: int
    eval_trials: int
    bins: int
    bins_forward: int
    heldin: int
    heldout: int
    bin_ms: float
    rate_hz: float


@dataclass(frozen=True)
class _Layout:
    """The shape and the conditions of a recording of one kind, checked."""

    kind: str
    conditions: int
    heldin: int
    heldout: int
    trials: int = 320
    eval_trials: int = 80
    bins: int = 50
    bins_forward: int = 10
    bin_ms: float = 20.0
    rate_hz: float = 15.0

    def __post_init__(self) -> None:
        at_least_1 = ("trials", "eval_trials", "bins", "heldin", "heldout", "conditions")
        for option, smallest in {**dict.fromkeys(at_least_1, 1), "bins_forward": 0}.items():
            checked_whole(f"{self.kind}: {option}", getattr(self, option), smallest)
        for option in ("bin_ms", "rate_hz"):
            _check_positive(self.kind, option, getattr(self, option))
        if self.conditions > self.trials:
            raise UserError(
                f"{self.kind}: {self.conditions} conditions do not fit into {self.trials} training "
                "trials; raise trials"
            )

    @property
    def all_trials(self) -> int:
        return self.trials + self.eval_trials

    @property
    def all_bins(self) -> int:
        return self.bins + self.bins_forward

    @property
    def neurons(self) -> int:
        return self.heldin + self.heldout


def make(kind: str, seed: int = 0, **options: Any) -> SpikeData:
    """Simulates a recording.

    Args:
      kind: ``lorenz``, ``rnn`` or ``reach``.
      seed: the same seed and options give the same recording, bit for bit.
      **options: keyword options of the function of that name, and of ``Shape``.

    Raises:
      UserError: there is no such kind or option, or a value is not possible.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"no simulation is called {kind!r}; choose one of {', '.join(KINDS)}")
    checked_whole(f"{kind}: seed", seed)
    own = inspect.signature(KINDS[kind]).parameters
    names = [*Shape.__annotations__, *(name for name in own if name not in ("seed", "shape"))]
    unknown = [name for name in options if name not in names]
    if unknown:
        raise UserError(f"{kind}: no option {', '.join(unknown)}; there are {', '.join(names)}")
    return KINDS[kind](seed=seed, **options)


def lorenz(
    *,
    seed: int = 0,
    conditions: int = 40,
    modulation: float = 0.7,
    speed: float = 2.0,
    **shape: Unpack[Shape],
) -> SpikeData:
    """A Lorenz system that drives neurons through a random linear readout and an exponential.

        dx = 10 (y - x),   dy = x (28 - z) - y,   dz = x y - (8/3) z      per unit of time

    A condition is an initial state on the attractor; its trials differ only in their spikes.
    Source: Sussillo et al. 2016 (LFADS); Ye and Pandarinath 2021 (NDT).

    Args:
      seed: seed of everything random.
      conditions: number of initial states.
      modulation: standard deviation of a neuron's log-rate over time and trials.
      speed: units of the system's time per second.
      **shape: shape of the recording; 24 held-in and 8 held-out neurons by default.

    Returns:
      The recording; its behaviour is the three latents, each of zero mean and unit variance.

    Raises:
      UserError: a value is not possible.
    """
    layout = _Layout("lorenz", conditions, **(Shape(heldin=24, heldout=8) | shape))
    _check_positive("lorenz", "modulation", modulation)
    _check_positive("lorenz", "speed", speed)
    rng = np.random.default_rng(seed)
    # Within five units of time, any state reaches the attractor.
    start_CD = rng.normal(size=(conditions, 3)) + np.array([0.0, 0.0, 25.0])
    start_CD = lorenz_path(start_CD, 500, 0.01)[:, -1]
    step = speed * layout.bin_ms / 1000 / LORENZ_STEPS
    path_CsD = lorenz_path(start_CD, layout.all_bins * LORENZ_STEPS, step)
    latents_CTsD = path_CsD.reshape(conditions, layout.all_bins, LORENZ_STEPS, 3)
    latents_CTsD = (latents_CTsD - path_CsD.mean(axis=(0, 1))) / path_CsD.std(axis=(0, 1))
    rates_CTN = _exponential_rates(rng, latents_CTsD, layout, modulation)
    condition_R = _conditions(rng, layout)
    behavior_RTD = latents_CTsD.mean(axis=2)[condition_R]
    return _recording(rng, layout, rates_CTN[condition_R], behavior_RTD, condition_R)


def rnn(
    *,
    seed: int = 0,
    conditions: int = 40,
    gain: float = 2.0,
    units: int = 50,
    tau_ms: float = 25.0,
    **shape: Unpack[Shape],
) -> SpikeData:
    """A chaotic network of rate units, some of which are observed as Poisson neurons.

        tau dx/dt = -x + gain W tanh(x),   W normal with variance 1 / units
        rate of a neuron = rate_hz (1 + tanh(x))

    A condition is an initial state; its trials differ only in their spikes. The network is chaotic
    for a gain above 1, and changes faster for a larger gain.
    Source: Sussillo et al. 2016 (LFADS), with gains of 1.5 and 2.5.

    Args:
      seed: seed of everything random.
      conditions: number of initial states.
      gain: scale of the connections.
      units: units of the network; the neurons are a random choice of them.
      tau_ms: time constant of a unit, ms.
      **shape: shape of the recording; 36 held-in and 12 held-out neurons by default. ``bin_ms``
        must be a whole number, and the rate of a unit lies between 0 and twice ``rate_hz``.

    Returns:
      The recording; its behaviour is the first three principal components of tanh(x).

    Raises:
      UserError: a value is not possible.
    """
    layout = _Layout("rnn", conditions, **(Shape(heldin=36, heldout=12) | shape))
    _check_positive("rnn", "gain", gain)
    if not tau_ms >= 5 * RNN_STEP_MS:
        raise UserError(f"rnn: tau_ms is {tau_ms}; give 5 ms or more, the step is {RNN_STEP_MS} ms")
    if layout.bin_ms != round(layout.bin_ms):
        raise UserError(
            f"rnn: bin_ms is {layout.bin_ms}; give whole ms, the step is {RNN_STEP_MS} ms"
        )
    if units < layout.neurons:
        raise UserError(
            f"rnn: {layout.neurons} neurons cannot be observed in units = {units}; raise units"
        )
    rng = np.random.default_rng(seed)
    weights_UU = rng.normal(size=(units, units)) * gain / np.sqrt(units)
    steps, step = round(layout.bin_ms / RNN_STEP_MS), RNN_STEP_MS / tau_ms
    start_CU = rng.normal(size=(conditions, units))
    start_CU = rnn_path(weights_UU, start_CU, 20 * steps, step)[:, -1]
    path_CsU = rnn_path(weights_UU, start_CU, layout.all_bins * steps, step)
    activity_CTU = np.tanh(path_CsU).reshape(conditions, -1, steps, units).mean(axis=2)
    observed_N = rng.permutation(units)[: layout.neurons]
    rest = layout.rate_hz * layout.bin_ms / 1000
    rates_CTN = rest * (1 + activity_CTU[..., observed_N])
    centred_CTU = activity_CTU - activity_CTU.mean(axis=(0, 1))
    components = np.linalg.svd(centred_CTU.reshape(-1, units), full_matrices=False)[2][:3]
    condition_R = _conditions(rng, layout)
    behavior_RTD = (centred_CTU @ components.T)[condition_R]
    return _recording(rng, layout, rates_CTN[condition_R], behavior_RTD, condition_R)


def reach(
    *,
    seed: int = 0,
    directions: int = 8,
    curved: bool = True,
    modulation: float = 1.0,
    variability: float = 1.0,
    **shape: Unpack[Shape],
) -> SpikeData:
    """Delayed reaches: a preparatory state, followed by rotations during movement.

    With the target at angle theta, u = (cos theta, sin theta), time s since movement onset in
    units of the movement's duration, R the rotation matrix, b a bell-shaped curve over the
    movement, and p a plateau that ends with its onset, the latents are

        p(s) u,  p(s) k          preparation: direction and curvature
        a b(s) R((k + w) s') u   two planes that rotate in opposite senses, s' = s - 1/2;
        a b(s) R((k - w) s') u   their mean is a b(s) cos(w s') R(k s') u, the hand's velocity
        b(s)                     movement in any direction

    with k = 0 for a straight reach. Onset, duration, vigour a, direction theta and slow noise on
    all latents vary between trials: they cannot be inferred from the condition, but from the
    spikes of other neurons.
    Source of the model: Churchland et al. 2012; Kaufman et al. 2016.

    Args:
      seed: seed of everything random.
      directions: number of targets on a circle.
      curved: reach every target also along a curve, which doubles the number of conditions.
      modulation: standard deviation of a neuron's log-rate over time and trials.
      variability: scale of all differences between trials of a condition; 0 for none.
      **shape: shape of the recording; 300 training trials, 32 held-in and 16 held-out neurons and
        a mean rate of 12 Hz by default.

    Returns:
      The recording; its behaviour is the hand's velocity in mm/s.

    Raises:
      UserError: a value is not possible.
    """
    checked_whole("reach: directions", directions, 1)
    conditions = directions * (2 if curved else 1)
    defaults = Shape(trials=300, heldin=32, heldout=16, rate_hz=12.0)
    layout = _Layout("reach", conditions, **(defaults | shape))
    _check_positive("reach", "modulation", modulation)
    if not is_number(variability) or variability < 0:
        raise UserError(f"reach: variability is {variability!r}; give 0 or more")
    rng = np.random.default_rng(seed)
    condition_R = _conditions(rng, layout)
    direction_R, curve_R = condition_R % directions, condition_R // directions
    latents_RTD = _reach_latents(rng, layout, direction_R / directions, curve_R, variability)
    velocity_RTD = 600.0 * (latents_RTD[..., 3:5] + latents_RTD[..., 5:7]) / 2
    # All latents contribute equally to log-rates, except constant ones (k, without curves).
    scaled_RTD = latents_RTD / np.maximum(latents_RTD.std(axis=(0, 1)), 1e-3)
    rates_RTN = _exponential_rates(
        rng, scaled_RTD[:, :, None], layout, modulation, limit=2 * modulation
    )
    data = _recording(rng, layout, rates_RTN, velocity_RTD, condition_R)
    return replace(data, behavior_names=("vel_x", "vel_y"), behavior_unit="mm/s")


KINDS: dict[str, Callable[..., SpikeData]] = {"lorenz": lorenz, "rnn": rnn, "reach": reach}


def lorenz_path(
    start_CD: Float[NDArray, "C 3"], steps: int, step: float
) -> Float[NDArray, "C steps 3"]:
    """Integrates the Lorenz system by the classical fourth-order Runge-Kutta method.

    Args:
      start_CD: initial states.
      steps: number of steps.
      step: length of a step, in units of the system's time.

    Returns:
      The states after each step.
    """
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
    """Integrates the network by the Euler method.

    Args:
      weights_UU: weights, gain included, to each unit (row) from each unit (column).
      start_CU: initial states.
      steps: number of steps.
      step: length of a step, in time constants.

    Returns:
      The states after each step.
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
    """The latents of ``reach``: three of preparation, two planes, one of movement.

    Args:
      rng: source of random numbers.
      layout: shape of the recording.
      turn_R: direction of every trial as a fraction of a full turn.
      curved_R: 1 for a curved reach, else 0.
      variability: scale of the differences between trials.
    """

    def varied(spread: float) -> NDArray:
        return variability * spread * rng.normal(size=(layout.all_trials, 1))

    span = layout.bins * layout.bin_ms  # observed time; the movement's times scale with it
    time_T = (np.arange(layout.all_bins) + 0.5) * layout.bin_ms / span
    onset_R1 = 0.6 + varied(0.08)
    duration_R1 = 0.5 * np.exp(varied(0.2))
    vigour_R1 = np.exp(varied(0.25))
    theta_R1 = 2 * np.pi * turn_R[:, None] + varied(0.25)
    bend_R1 = 2.5 * curved_R[:, None] + varied(0.4)
    s_RT = (time_T - onset_R1) / duration_R1
    bell_RT = np.exp(-0.5 * ((s_RT - 0.5) / 0.22) ** 2)
    # Preparation starts when the target appears, at a tenth of the time, and ends at onset.
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
    return latents_RTD + 0.05 * variability * _slow_noise(rng, latents_RTD.shape, layout.bins)


def _slow_noise(
    rng: np.random.Generator, shape: tuple[int, ...], bins: int
) -> Float[NDArray, "R T D"]:
    """First-order autoregressive noise of unit variance, correlated over a tenth of the bins."""
    keep = np.exp(-1 / (0.1 * bins))
    drive_RTD = rng.normal(size=shape)
    noise_RTD = np.empty_like(drive_RTD)
    noise_RTD[:, 0] = drive_RTD[:, 0]
    for t in range(1, shape[1]):
        noise_RTD[:, t] = keep * noise_RTD[:, t - 1] + np.sqrt(1 - keep**2) * drive_RTD[:, t]
    return noise_RTD


def _sigmoid(x: NDArray) -> NDArray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _exponential_rates(
    rng: np.random.Generator,
    latents_RTsD: Float[NDArray, "R T s D"],
    layout: _Layout,
    modulation: float,
    limit: float = np.inf,
) -> Float[NDArray, "R T N"]:
    """Expected counts per bin from a random linear readout of latents and an exponential.

    Args:
      rng: source of random numbers.
      latents_RTsD: latents at ``s`` times within every bin; the rate is their mean.
      layout: shape of the recording.
      modulation: standard deviation of every neuron's log-rate.
      limit: largest deviation of a log-rate from its mean, approached smoothly.
    """
    weights_DN = rng.normal(size=(latents_RTsD.shape[-1], layout.neurons))
    drive_RTsN = latents_RTsD @ weights_DN
    drive_RTsN -= drive_RTsN.mean(axis=(0, 1, 2))
    drive_RTsN *= modulation / drive_RTsN.std(axis=(0, 1, 2))
    if limit < np.inf:
        drive_RTsN = limit * np.tanh(drive_RTsN / limit)
    shape_RTN = np.exp(drive_RTsN).mean(axis=2)
    relative_N = rng.uniform(1 - RATE_SPREAD, 1 + RATE_SPREAD, layout.neurons)
    mean_N = layout.rate_hz * layout.bin_ms / 1000 * relative_N / relative_N.mean()
    return shape_RTN / shape_RTN.mean(axis=(0, 1)) * mean_N


def _conditions(rng: np.random.Generator, layout: _Layout) -> Int[NDArray, " R"]:
    """A condition for every trial, training trials first, balanced in both splits."""
    parts = [np.arange(n) % layout.conditions for n in (layout.trials, layout.eval_trials)]
    return np.concatenate([rng.permutation(part) for part in parts]).astype(np.int32)


def _recording(
    rng: np.random.Generator,
    layout: _Layout,
    rates_RTN: Float[NDArray, "R T N"],
    behavior_RTD: Float[NDArray, "R T D"],
    condition_R: Int[NDArray, " R"],
) -> SpikeData:
    """Draws the spikes, and divides everything into splits and blocks."""
    rates_RTN = rates_RTN.astype(np.float32)
    counts_RTN = rng.poisson(rates_RTN)
    T_obs = layout.bins

    def split(rows: slice) -> Trials:
        slices = {name: block_slices(name, T_obs, layout.heldin) for name in BLOCKS}
        blocks: dict[str, Any] = {
            name: as_counts(counts_RTN[rows][slices[name]]) for name in BLOCKS
        }
        return Trials(
            **blocks,
            behavior=behavior_RTD[rows, :T_obs].astype(np.float32),
            conditions=condition_R[rows],
            rates=rates_RTN[rows],
            recorded=None,
        )

    psth_CTN = [rates_RTN[condition_R == c, :T_obs].mean(axis=0) for c in range(layout.conditions)]
    return SpikeData(
        train=split(slice(layout.trials)),
        eval=split(slice(layout.trials, None)),
        name=layout.kind,
        bin_ms=float(layout.bin_ms),
        psth=np.stack(psth_CTN).astype(np.float64),
    )


def _check_positive(kind: str, option: str, value: float) -> None:
    if not is_number(value) or value <= 0:
        raise UserError(f"{kind}: {option} is {value!r}; give a positive number")
