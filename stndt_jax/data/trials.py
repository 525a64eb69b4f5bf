"""Trials of binned spikes, in memory: a recording as everything else of the package takes it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from stndt_jax.data.validation import checked_counts
from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Float, Int, NDArray, UInt

# A block of a trial: its bins and its neurons.
BLOCKS = {
    "heldin": ("observed bins", "held-in neurons"),
    "heldout": ("observed bins", "held-out neurons"),
    "heldin_forward": ("forward bins", "held-in neurons"),
    "heldout_forward": ("forward bins", "held-out neurons"),
}
# Attributes of Trials that a fingerprint contains under an older name, so that it stays the same.
_FINGERPRINT_NAMES = {"recorded": "valid"}


def block_slices(name: str, bins: int, heldin: int) -> tuple[slice, slice, slice]:
    """Where a block stands in a (trials, bins, neurons) array."""
    time = slice(bins, None) if name.endswith("_forward") else slice(bins)
    neurons = slice(heldin, None) if name.startswith("heldout") else slice(heldin)
    return slice(None), time, neurons


@dataclass(frozen=True, eq=False)
class Trials:
    """Trials of one split.

    Attributes:
        heldin: spike counts of held-in neurons in observed bins.
        heldout: of held-out neurons; None where they are not known.
        heldin_forward: held-in neurons in forward bins; None where they are not known.
        heldout_forward: held-out neurons in forward bins; None where they are not known.
        behavior: hand velocity (mm/s) in every observed bin, or values of a whole trial;
            NaN where unknown.
        conditions: condition of every trial, -1 for none.
        rates: true rates, expected counts per bin, of simulated spikes: neurons held-in
            then held-out, bins observed then forward.
        valid: False where a count was not recorded (and is 0 here): behind the end of a short
            trial, in a gap of the recording; None if every count was.
        starts: time of every trial's bin 0 in the recording, s, be it padding; None where
            unknown.
    """

    heldin: UInt[NDArray, "R T_obs N_in"]
    heldout: UInt[NDArray, "R T_obs N_out"] | None
    heldin_forward: UInt[NDArray, "R T_fwd N_in"] | None
    heldout_forward: UInt[NDArray, "R T_fwd N_out"] | None
    behavior: Float[NDArray, "R ..."] | None
    conditions: Int[NDArray, " R"] | None
    rates: Float[NDArray, "R T N"] | None
    recorded: Bool[NDArray, "R T N"] | None
    starts: Float[NDArray, " R"] | None = None

    def __len__(self) -> int:
        """The number of trials."""
        return self.heldin.shape[0]

    def counts(self, bins_forward: int, heldout: int) -> UInt[NDArray, "R T N"]:
        """All counts in one array, zeros where they are not known.

        Args:
            bins_forward: forward bins of the recording.
            heldout: held-out neurons of the recording.
        """
        blocks = [block for _, block in self._blocks()]
        counts_RTN = np.zeros(self._shape(bins_forward, heldout), np.result_type(*blocks))
        for slices, block in self._blocks():
            counts_RTN[slices] = block
        return counts_RTN

    def has_count(self, bins_forward: int, heldout: int) -> Bool[NDArray, "R T N"]:
        """Where `counts` holds counts, and not zeros for want of them."""
        has_count_RTN = np.zeros(self._shape(bins_forward, heldout), bool)
        for slices, _ in self._blocks():
            has_count_RTN[slices] = True
        return has_count_RTN if self.recorded is None else has_count_RTN & self.recorded

    def _shape(self, bins_forward: int, heldout: int) -> tuple[int, int, int]:
        trials, bins, heldin = self.heldin.shape
        return trials, bins + bins_forward, heldin + heldout

    def _blocks(self) -> list[tuple[tuple[slice, slice, slice], NDArray]]:
        _, bins, heldin = self.heldin.shape
        blocks = ((block_slices(name, bins, heldin), getattr(self, name)) for name in BLOCKS)
        return [(slices, block) for slices, block in blocks if block is not None]


@dataclass(frozen=True, eq=False)
class SpikeData:
    """A recording: trials to train on and trials to evaluate.

    Attributes:
        train: trials with every count known.
        eval: trials whose held-out neurons and forward bins may be unknown.
        name: the recording's name, and its group's in a target file.
        bin_ms: bin width in ms.
        psth: mean counts per bin of every condition, neurons held-in then held-out; NaN
            where a condition has no bin.
        units: identifier of every neuron in the recording, held-in then held-out.
    """

    train: Trials
    eval: Trials
    name: str
    bin_ms: float
    psth: Float[NDArray, "C T_obs N"] | None
    units: Int[NDArray, " N"] | None = None

    @property
    def bins_observed(self) -> int:
        """T_obs."""
        return self.train.heldin.shape[1]

    @property
    def bins_forward(self) -> int:
        """T_fwd, 0 without forward bins."""
        forward = self.train.heldin_forward
        return 0 if forward is None else forward.shape[1]

    @property
    def bins(self) -> int:
        """T = T_obs + T_fwd."""
        return self.bins_observed + self.bins_forward

    @property
    def heldin(self) -> int:
        """N_in."""
        return self.train.heldin.shape[2]

    @property
    def heldout(self) -> int:
        """N_out."""
        return 0 if self.train.heldout is None else self.train.heldout.shape[2]

    @property
    def neurons(self) -> int:
        """N = N_in + N_out."""
        return self.heldin + self.heldout

    @property
    def gaps(self) -> bool:
        """Whether somewhere a held-in neuron was not recorded in an observed bin."""
        seen = (slice(None), slice(self.bins_observed), slice(self.heldin))
        splits = (self.train.recorded, self.eval.recorded)
        return any(recorded is not None and not recorded[seen].all() for recorded in splits)

    def fingerprint(self) -> str:
        """SHA-256, in hex, over names, bin width and every array with its type and shape."""
        digest = hashlib.sha256(f"{self.name}\n{float(self.bin_ms)!r}\n".encode())
        arrays = {"psth": self.psth, "units": self.units}
        for split, trials in (("train", self.train), ("eval", self.eval)):
            arrays |= {
                f"{split}.{_FINGERPRINT_NAMES.get(f.name, f.name)}": getattr(trials, f.name)
                for f in fields(trials)
            }
        for name, array in arrays.items():
            if array is None and name.rpartition(".")[2] in ("units", "starts"):
                continue  # so that recordings without them keep their fingerprint
            what = "none" if array is None else f"{array.dtype.str} {array.shape}"
            digest.update(f"{name} {what}\n".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @classmethod
    def from_arrays(
        cls,
        spikes: NDArray | Sequence[NDArray],
        *,
        bin_ms: float,
        name: str = "recording",
        heldout: float | Sequence[int] | NDArray = 0.25,
        evaluated: float | Sequence[int] | NDArray = 0.25,
        bins_forward: int = 0,
        behavior: NDArray | Sequence[NDArray] | None = None,
        conditions: Sequence[int] | NDArray | None = None,
        rates: NDArray | Sequence[NDArray] | None = None,
        starts: Sequence[float] | NDArray | None = None,
        units: Sequence[int] | NDArray | None = None,
        seed: int = 0,
    ) -> SpikeData:
        """A recording from arrays of your own.

        Trials of unequal length are padded behind their end, or before their beginning where
        there are forward bins, so that these follow the observed ones. Padding, like NaN
        counts, is `valid` nowhere: it is in no input, loss, attention or score.

        Args:
            spikes: spike counts (trials, bins, neurons), or one array (bins, neurons) a trial;
                NaN where not recorded.
            bin_ms: bin width in ms.
            name: name of the recording.
            heldout: which neurons to hold out: a fraction, drawn by the seed, or their indices.
            evaluated: which trials to evaluate: a fraction, drawn by the seed, or their indices.
            bins_forward: how many of a trial's last bins are forward bins.
            behavior: values in every bin, in the form of the spikes, or (trials, values).
            conditions: condition of every trial, -1 for none.
            rates: true rates, counts per bin, in the form of the spikes.
            starts: time of every trial's first own bin, s.
            units: identifier of every neuron; default its index.
            seed: of the draws.

        Raises:
            UserError: the arrays do not fit together, or hold what they cannot hold.
        """
        if not bin_ms > 0:
            raise UserError(f"bin_ms is {bin_ms!r}; give the bin width in ms, above 0")
        front = bins_forward > 0
        every_RTN = _stacked("spikes", spikes, front)
        counts_RTN, valid_RTN = checked_counts("spikes", every_RTN, unknown=True)
        R, T, N = counts_RTN.shape
        if not 0 <= bins_forward < T:
            raise UserError(f"bins_forward is {bins_forward}; choose 0 to {T - 1} of the {T} bins")
        rng = np.random.default_rng(seed)
        out = _chosen("heldout", heldout, N, "neurons", rng)
        order_N = np.concatenate([np.setdiff1d(np.arange(N), out), out])
        chosen = _chosen("evaluated", evaluated, R, "trials", rng)
        T_obs, N_in = T - bins_forward, N - len(out)

        def fits(what: str, x: NDArray | None, shape: tuple[int, ...]) -> NDArray | None:
            if x is not None and x.shape[: len(shape)] != shape:
                raise UserError(f"{what} has shape {x.shape}, but the spikes demand {shape}")
            return x

        stacked = {}
        for what, given in (("behavior", behavior), ("rates", rates)):
            whole = given if isinstance(given, np.ndarray) else None
            if given is None or (whole is not None and whole.ndim == 2):
                stacked[what] = whole  # none at all, or values of whole trials
            else:
                stacked[what] = fits(what, _stacked(what, given, front), (R, T))
        fits("behavior", stacked["behavior"], (R,))
        fits("rates", stacked["rates"], (R, T, N))
        named_N = np.arange(N) if units is None else np.asarray(units, np.int64)
        fits("units", named_N, (N,))

        def split(rows: NDArray) -> Trials:
            def block(key: str) -> NDArray:
                return np.ascontiguousarray(counts[block_slices(key, T_obs, N_in)])

            counts, recorded = counts_RTN[rows][..., order_N], valid_RTN[rows][..., order_N]
            labels = None if conditions is None else np.asarray(conditions, np.int32)
            times = None if starts is None else np.array(starts, np.float64)
            fits("conditions", labels, (R,))
            fits("starts", times, (R,))
            if times is not None and front:  # whole trials, in one array, have no padding
                times -= [(T - len(row)) * bin_ms / 1000.0 for row in spikes]
            moves, truth = stacked["behavior"], stacked["rates"]
            if moves is not None and moves.ndim == 3:
                moves = moves[:, :T_obs]
            return Trials(
                **{key: block(key) for key in BLOCKS},
                behavior=None if moves is None else moves[rows].astype(np.float32),
                conditions=None if labels is None else labels[rows],
                rates=None if truth is None else truth[rows][..., order_N].astype(np.float32),
                recorded=None if recorded.all() else recorded,
                starts=None if times is None else times[rows],
            )

        rest = np.setdiff1d(np.arange(R), chosen)
        return cls(split(rest), split(chosen), name, float(bin_ms), None, named_N[order_N])


def _stacked(what: str, given: NDArray | Sequence[NDArray], front: bool) -> NDArray:
    """Trials in one array (trials, bins, values), NaN before (front) or behind short ones."""
    if isinstance(given, np.ndarray) and given.dtype != object:
        if given.ndim != 3 or 0 in given.shape:
            raise UserError(
                f"{what} has shape {given.shape}; give (trials, bins, values), or a list of one "
                "array (bins, values) a trial"
            )
        _numbers(what, given)
        return given
    rows = [np.asarray(row) for row in given]
    for number, row in enumerate(rows):
        _numbers(f"{what} of trial {number}", row)
        if row.ndim != 2 or 0 in row.shape or row.shape[1] != rows[0].shape[1]:
            raise UserError(
                f"{what} of trial {number} has shape {row.shape}; give (bins, "
                f"{rows[0].shape[-1] if rows[0].ndim else 'values'}), one bin or more"
            )
    if not rows:
        raise UserError(f"{what} holds no trial; give one array (bins, values) a trial")
    longest = max(len(row) for row in rows)
    if all(len(row) == longest for row in rows):
        return np.stack(rows)
    padded = np.full((len(rows), longest, rows[0].shape[1]), np.nan, np.float32)
    for number, row in enumerate(rows):
        first = longest - len(row) if front else 0
        padded[number, first : first + len(row)] = row
    return padded


def _numbers(what: str, x: NDArray) -> None:
    if x.dtype.kind not in "buif":
        raise UserError(f"{what} holds type {x.dtype}; give numbers")


def _chosen(
    option: str, given: float | Sequence[int] | NDArray, size: int, of: str, rng: Any
) -> Int[NDArray, " n"]:
    """Some of `size` things, by a fraction or by their indices, in order."""
    if isinstance(given, (int, float)):
        number = round(given * size) if 0 < given < 1 else 0
        if not 0 < number < size:
            raise UserError(
                f"{option} is {given:g} of {size} {of}; choose a fraction that leaves at least one "
                f"of the {of} on either side"
            )
        return np.sort(rng.permutation(size)[:number])
    chosen = np.unique(np.asarray(given))
    if chosen.dtype.kind not in "iu" or chosen.size != len(given) or not 0 < chosen.size < size:
        raise UserError(
            f"{option} names {len(given)} of {size} {of}; list indices, each once, some but not all"
        )
    if chosen[0] < 0 or chosen[-1] >= size:
        raise UserError(
            f"{option} names {chosen[-1] if chosen[0] >= 0 else chosen[0]}, but the "
            f"{of} are 0 to {size - 1}"
        )
    return chosen
