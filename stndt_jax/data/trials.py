"""Recordings in memory: trials of binned spikes, from arrays or as ``hdf5.py`` reads them."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np

from stndt_jax.data import given_arrays, tables
from stndt_jax.data.validation import checked_counts
from stndt_jax.errors import UserError, checked_whole
from stndt_jax.types import Bool, Dims, Float, Int, NDArray, Shaped, UInt

# The blocks that make up a trial: the bins and the neurons of each.
BLOCKS = {
    "heldin": ("observed bins", "held-in neurons"),
    "heldout": ("observed bins", "held-out neurons"),
    "heldin_forward": ("forward bins", "held-in neurons"),
    "heldout_forward": ("forward bins", "held-out neurons"),
}
# Attributes of Trials that a fingerprint contains under an older name, so that it stays the same.
_FINGERPRINT_NAMES = {"recorded": "valid"}
# What it does not contain: names and tables change nothing that a model learns.
_NO_NUMBERS = ("columns",)


def block_slices(name: str, bins: int, heldin: int) -> tuple[slice, slice, slice]:
    """The slices of a block in an array (trials, bins, neurons).

    Args:
      name: a key of ``BLOCKS``.
      bins: number of observed bins.
      heldin: number of held-in neurons.
    """
    time = slice(bins, None) if name.endswith("_forward") else slice(bins)
    neurons = slice(heldin, None) if name.startswith("heldout") else slice(heldin)
    return slice(None), time, neurons


def evenly_spaced(count: int, most: int) -> Int[NDArray, " r"]:
    """Indices of ``count`` items: all of them, or ``most`` evenly spaced ones if there are more."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


@dataclass(frozen=True, eq=False)
class Trials:
    """The trials of one split, training or evaluation.

    Attributes:
      heldin: spike counts of held-in neurons in observed bins.
      heldout: spike counts of held-out neurons in observed bins; None if they are withheld.
      heldin_forward: spike counts of held-in neurons in forward bins; None if they are withheld.
      heldout_forward: spike counts of held-out neurons in forward bins; None if withheld.
      behavior: values in every observed bin, (trials, bins, dimensions), or values of whole
        trials, (trials, dimensions); NaN where missing. ``SpikeData`` has names and unit.
      conditions: condition of every trial, -1 for none.
      rates: true rates of simulated spikes, expected counts per bin; neurons held-in then
        held-out, bins observed then forward.
      recorded: False where the recording has no count (the count here is 0): in the padding of a
        short trial or in a gap of the recording. None if everything was recorded.
      starts: time of bin 0 of every trial in the recording, s, even if that bin is padding; None
        if unknown.
      columns: of the trial table that are kept, one entry a trial; ``source_trial`` is the row
        in the array or table that the recording was made from.
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
    columns: tables.Columns = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of trials."""
        return self.heldin.shape[0]

    def counts(self, bins_forward: int, heldout: int) -> UInt[NDArray, "R T N"]:
        """The counts of all blocks in one array, 0 where ``has_count`` is False.

        Args:
          bins_forward: number of forward bins of the recording.
          heldout: number of held-out neurons of the recording.
        """
        blocks = [block for _, block in self._blocks()]
        counts_RTN = np.zeros(self._shape(bins_forward, heldout), np.result_type(*blocks))
        for slices, block in self._blocks():
            counts_RTN[slices] = block
        return counts_RTN

    def has_count(self, bins_forward: int, heldout: int) -> Bool[NDArray, "R T N"]:
        """Where a count is available: recorded, and in a block that is not withheld.

        Args:
          bins_forward: number of forward bins of the recording.
          heldout: number of held-out neurons of the recording.
        """
        has_count_RTN = np.zeros(self._shape(bins_forward, heldout), bool)
        for slices, _ in self._blocks():
            has_count_RTN[slices] = True
        return has_count_RTN if self.recorded is None else has_count_RTN & self.recorded

    def in_trial(self, bins: int) -> Bool[NDArray, "R T"]:
        """Bins of each trial from the first to the last that was recorded; the others are padding.

        Args:
          bins: number of observed and forward bins of the recording.
        """
        if self.recorded is None:
            return np.ones((len(self), bins), bool)
        some_RT = np.any(self.recorded, axis=2)
        begun_RT = np.logical_or.accumulate(some_RT, axis=1)
        not_over_RT = np.logical_or.accumulate(some_RT[:, ::-1], axis=1)[:, ::-1]
        return begun_RT & not_over_RT

    def subset(self, rows: Int[NDArray, " r"]) -> Trials:
        """The trials of these indices, in their order."""
        arrays = {key.name: getattr(self, key.name) for key in fields(self)}
        columns = {name: column[rows] for name, column in arrays.pop("columns").items()}
        chosen: dict[str, Any] = {name: x if x is None else x[rows] for name, x in arrays.items()}
        return Trials(**chosen, columns=columns)

    def _shape(self, bins_forward: int, heldout: int) -> tuple[int, int, int]:
        trials, bins, heldin = self.heldin.shape
        return trials, bins + bins_forward, heldin + heldout

    def _blocks(self) -> list[tuple[tuple[slice, slice, slice], NDArray]]:
        """The blocks that are available, each with its slices."""
        _, bins, heldin = self.heldin.shape
        blocks = ((block_slices(name, bins, heldin), getattr(self, name)) for name in BLOCKS)
        return [(slices, block) for slices, block in blocks if block is not None]


class Source(NamedTuple):
    """The files that a recording was read from, and how.

    Attributes:
      path: input file, absolute.
      targets: target file, absolute; empty for none.
      name: the name that was asked for; empty: the files say it.
      bin_ms: the bin width that was asked for, ms; 0: the files say it.
      fingerprint: of the recording as it was read.
    """

    path: str
    targets: str
    name: str
    bin_ms: float
    fingerprint: str


@dataclass(frozen=True, eq=False, repr=False)
class SpikeData:
    """A recording: trials to train on and trials to evaluate.

    Attributes:
      train: training trials, in which no block is withheld.
      eval: evaluated trials, whose held-out neurons and forward bins may be withheld.
      name: name of the recording, also of its group in a target file.
      bin_ms: bin width, ms.
      psth: mean counts per bin of every condition, neurons held-in then held-out; NaN where a
        condition has no recorded bin. None if there are none.
      units: identifier of every neuron in the recording, held-in then held-out.
      source: the files it was read from; None of arrays.
      unit_columns: of the unit table that are kept, one entry a neuron, held-in then held-out;
        ``area`` is what tables and figures group neurons by.
      behavior_names: of the dimensions of behaviour; empty if not given.
      behavior_unit: of behaviour, for example mm/s; empty if not given.
      condition_names: empty if conditions are numbers only.
    """

    train: Trials
    eval: Trials
    name: str
    bin_ms: float
    psth: Float[NDArray, "C T_obs N"] | None
    units: Int[NDArray, " N"] | None = None
    source: Source | None = None
    unit_columns: tables.Columns = field(default_factory=dict)
    behavior_names: tuple[str, ...] = ()
    behavior_unit: str = ""
    condition_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"SpikeData {self.name}: {len(self.train)} training and {len(self.eval)} evaluated "
            f"trials, {self.bins_observed} observed + {self.bins_forward} forward bins of "
            f"{self.bin_ms:g} ms, {self.heldin} held-in + {self.heldout} held-out neurons"
        )

    @property
    def dims(self) -> Dims:
        """The sizes of a trial."""
        return Dims(self.bins_observed, self.bins_forward, self.heldin, self.heldout, self.gaps)

    @property
    def bins_observed(self) -> int:
        """T_obs, the number of observed bins."""
        return self.train.heldin.shape[1]

    @property
    def bins_forward(self) -> int:
        """T_fwd, the number of forward bins; 0 if there are none."""
        forward = self.train.heldin_forward
        return 0 if forward is None else forward.shape[1]

    @property
    def bins(self) -> int:
        """T = T_obs + T_fwd, the number of bins."""
        return self.bins_observed + self.bins_forward

    @property
    def heldin(self) -> int:
        """N_in, the number of held-in neurons."""
        return self.train.heldin.shape[2]

    @property
    def heldout(self) -> int:
        """N_out, the number of held-out neurons."""
        return 0 if self.train.heldout is None else self.train.heldout.shape[2]

    @property
    def neurons(self) -> int:
        """N = N_in + N_out, the number of neurons."""
        return self.heldin + self.heldout

    @property
    def gaps(self) -> bool:
        """Whether any held-in neuron was not recorded in some observed bin."""
        inputs = block_slices("heldin", self.bins_observed, self.heldin)
        splits = (self.train.recorded, self.eval.recorded)
        return any(recorded is not None and not recorded[inputs].all() for recorded in splits)

    def fingerprint(self) -> str:
        """SHA-256, in hex, of the name, the bin width and every array with its type and shape.

        Tables and names of trials, units and behaviour are not part of it.
        """
        digest = hashlib.sha256(f"{self.name}\n{float(self.bin_ms)!r}\n".encode())
        arrays = {"psth": self.psth, "units": self.units}
        for split, trials in (("train", self.train), ("eval", self.eval)):
            for attribute in fields(trials):
                if attribute.name not in _NO_NUMBERS:
                    key = _FINGERPRINT_NAMES.get(attribute.name, attribute.name)
                    arrays[f"{split}.{key}"] = getattr(trials, attribute.name)
        for name, array in arrays.items():
            if array is None and name.rpartition(".")[2] in ("units", "starts"):
                continue  # so that recordings without them keep their fingerprint
            what = "none" if array is None else f"{array.dtype.str} {array.shape}"
            digest.update(f"{name} {what}\n".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def matches(self, fingerprint: str, expected: str = "") -> bool:
        """Whether a fingerprint is that of this recording, also as earlier versions read it.

        Earlier versions named a recording as its configuration did, and kept no identifiers of
        units and times of trials of the benchmark's data sets.

        Args:
          fingerprint: of a run.
          expected: the name in the configuration of that run.
        """
        if fingerprint == self.fingerprint():
            return True
        bare = [replace(trials, starts=None) for trials in (self.train, self.eval)]
        untimed = replace(self, train=bare[0], eval=bare[1], units=None)
        short = expected.removesuffix("_20") if self.bin_ms == 20 else expected
        # They also took a name's own end for that of a group of 20 ms.
        cut = self.name.removesuffix("_20") if self.bin_ms == 20 else self.name
        names = {short or self.name, cut}
        earlier = [replace(data, name=name) for data in (self, untimed) for name in names]
        return any(fingerprint == data.fingerprint() for data in (*earlier, untimed))

    @property
    def areas(self) -> Shaped[NDArray, " N"] | None:
        """The area of every neuron, held-in then held-out; None if unknown."""
        return self.unit_columns.get("area")

    def condition_name(self, condition: int) -> str:
        """The name of a condition, or its number."""
        known = 0 <= condition < len(self.condition_names)
        return self.condition_names[condition] if known else str(condition)

    def trial_table(self, split: str) -> dict[str, NDArray]:
        """What is known of the trials, one entry each, in the order of all arrays of the split.

        Args:
          split: ``train`` or ``eval``.

        Returns:
          ``source_trial``, the row in the array or table that the recording was made from;
          ``start_s``, the time of bin 0; ``condition``, its name or number; and the columns that
          were kept. What is not known has no column.
        """
        trials: Trials = getattr(self, split)
        found = dict(trials.columns)
        if trials.starts is not None:
            found["start_s"] = trials.starts
        if trials.conditions is not None:
            labels = trials.conditions
            if self.condition_names:
                labels = np.array([self.condition_name(int(c)) if c >= 0 else "" for c in labels])
            found["condition"] = labels
        return found

    def unit_table(self) -> dict[str, NDArray]:
        """What is known of the neurons, one entry each, in the order of the rates.

        Returns:
          ``unit``, the identifier; ``held_out``; and the columns that were kept, such as ``area``.
        """
        units = np.arange(self.neurons) if self.units is None else self.units
        held_out = np.arange(self.neurons) >= self.heldin
        return {"unit": units, "held_out": held_out, **self.unit_columns}

    @classmethod
    def from_arrays(
        cls,
        spikes: NDArray | Sequence[NDArray] | Any,
        *,
        bin_ms: float,
        name: str = "recording",
        heldout: float | Sequence[int] | NDArray = 0.25,
        evaluated: float | Sequence[int] | NDArray = 0.25,
        bins_forward: int = 0,
        seed: int = 0,
        behavior: NDArray | Sequence[NDArray] | None = None,
        behavior_names: str | Sequence[str] = (),
        behavior_unit: str = "",
        conditions: Sequence[Any] | NDArray | None = None,
        rates: NDArray | Sequence[NDArray] | None = None,
        starts: Sequence[float] | NDArray | None = None,
        units: Sequence[int] | NDArray | None = None,
        trial_table: Any = None,
        unit_table: Any = None,
    ) -> SpikeData:
        """Makes a recording from arrays.

        ``SpikeData.from_arrays(counts, bin_ms=5)`` is enough. The other options fall into two
        groups: how to partition the recording (``heldout``, ``evaluated``, ``bins_forward``,
        ``seed``), and what else was recorded (``behavior``, ``conditions``, ``rates``,
        ``starts``, ``units``, ``trial_table``, ``unit_table``).

        Trials of unequal length are padded after their end or, if there are forward bins, before
        their beginning, so that the forward bins directly follow the observed ones. Padding and
        NaN counts are not ``recorded``: they enter no input, loss, attention or score.

        Args:
          spikes: spike counts (trials, bins, neurons), or a list of one array (bins, neurons) per
            trial; NaN where not recorded. Or an array of xarray with the dimensions ``trial``,
            ``time`` and ``unit``, in any order.
          bin_ms: bin width, ms.
          name: name of the recording.
          heldout: which neurons to hold out: a fraction, chosen at random, their indices, or a
            boolean mask.
          evaluated: which trials to evaluate: a fraction, chosen at random, their indices, or a
            boolean mask.
          bins_forward: how many of the last bins of a trial are forward bins.
          seed: seed of the random choices.
          behavior: values in every bin, in the form of the spikes, or (trials, dimensions).
          behavior_names: of its dimensions, for example ``("vel_x", "vel_y")``; none are made up.
          behavior_unit: its unit, for example ``"mm/s"``.
          conditions: condition of every trial: whole numbers, -1 for none, or texts, which are
            kept as names, an empty one for none.
          rates: true rates, expected counts per bin, in the form of the spikes.
          starts: time of every trial's first bin, before any padding, s.
          units: identifier of every neuron, a whole number from -1 to 65534; its index by default.
          trial_table: columns by name, or a table of pandas, with one entry a trial, to be kept
            beside rates; ``source_trial`` is the trial's index in ``spikes`` unless given. Columns
            ``condition`` and ``start_s`` take the place of ``conditions`` and ``starts``.
          unit_table: the same with one entry a neuron; ``area`` groups neurons in tables and
            figures, ``unit`` takes the place of ``units``.

        Raises:
          UserError: the arrays do not fit together, or contain values that they must not.
        """
        from stndt_jax.data import objects  # which makes recordings itself

        given_arrays.check_bin_ms(bin_ms)
        spikes, known_units = objects.counts(spikes)
        units = known_units if units is None else units
        if not isinstance(name, str) or not name.strip(" .") or "/" in name:
            raise UserError(
                f"name is {name!r}; give a text without /, the name of a group in files"
            )
        bins_forward = checked_whole("bins_forward", bins_forward)
        pad_first = bins_forward > 0
        stacked_RTN = given_arrays.stacked("spikes", spikes, pad_first)
        counts_RTN, recorded_RTN = checked_counts("spikes", stacked_RTN, allow_nan=True)
        R, T, N = counts_RTN.shape
        if not recorded_RTN.any():
            raise UserError("spikes is NaN everywhere, not recorded; give spike counts")
        partition = _partition((R, T, N), heldout, evaluated, bins_forward, seed)
        found = given_arrays.behavior(behavior, spikes, (R, T), pad_first)
        trial_columns, made_R = tables.apart(
            "trial_table", trial_table, condition=conditions, start_s=starts
        )
        other_columns, made_N = tables.apart("unit_table", unit_table, unit=units)
        numbers_R, condition_names = tables.conditions(made_R["condition"], R)
        columns = tables.checked("trial_table", trial_columns, R, "trials")
        unit_columns = tables.checked("unit_table", other_columns, N, "units")
        whole = _Recording(
            counts_RTN,
            recorded_RTN,
            behavior=found,
            conditions=numbers_R,
            rates=None
            if rates is None
            else given_arrays.rates(rates, spikes, recorded_RTN, pad_first),
            starts=given_arrays.starts(made_R["start_s"], spikes, (R, T), bin_ms, pad_first),
            columns={tables.SOURCE: np.arange(R), **columns},
        )
        return cls(
            train=whole.trials(partition.train, partition),
            eval=whole.trials(partition.eval, partition),
            name=name,
            bin_ms=float(bin_ms),
            psth=None,
            units=given_arrays.units(made_N["unit"], N)[partition.neurons],
            unit_columns={key: column[partition.neurons] for key, column in unit_columns.items()},
            behavior_names=tables.names(
                "behavior_names", behavior_names, 0 if found is None else found.shape[-1]
            ),
            behavior_unit=str(behavior_unit),
            condition_names=condition_names,
        )

    @classmethod
    def from_spike_times(
        cls,
        spikes: Any,
        events: Any = None,
        *,
        bin_ms: float,
        window_ms: Sequence[float] | float,
        overlap_ms: float = 0.0,
        align: str = "",
        until: str = "",
        bins_forward: int = 0,
        behavior: Any = None,
        lag_ms: float = 0.0,
        behavior_names: Sequence[str] = (),
        behavior_unit: str = "",
        condition_column: str = "",
        split_column: str = "",
        name: str = "recording",
        heldout: Any = 0.25,
        evaluated: Any = 0.25,
        max_bins: int = 0,
        drifting: str = "mask",
        seed: int = 0,
    ) -> SpikeData:
        """Makes a recording from spike times and events: windows around an event are its trials.

        Args:
          spikes: spike times (s) by unit, or one list for every unit; a table with the columns
            ``unit`` and ``time``; pynapple's ``TsGroup``, spikeinterface's sortings, or neo's spike
            trains and segments.
          events: times (s); begins and ends (trials, 2); columns by name, or a table of pandas;
            pynapple's ``IntervalSet``; None for a recording that is chopped into windows.
          bin_ms: bin width, ms.
          window_ms: begin and end of a trial, ms from the event; or the length of a window without
            events.
          overlap_ms: what neighbouring windows share without events, ms.
          align: column of events with the time; by default the only one, or ``start``.
          until: column of events; the end of the window is relative to this event instead.
          bins_forward: how many of the last bins of a trial are forward bins.
          behavior: times (s) and values (samples, dimensions) as a pair; pynapple's ``TsdFrame``;
            neo's analog signal; an array of xarray with the coordinate ``time``.
          lag_ms: how much later than the spikes behaviour is taken, ms.
          behavior_names: of the dimensions of behaviour, in place of its own.
          behavior_unit: its unit.
          condition_column: column of events with the conditions.
          split_column: column of events with ``train``, and ``val`` or ``test``.
          name: name of the recording.
          heldout: fraction of the units to hold out, or which ones: ``"area=V2"``, ``"5,6"``,
            indices or a boolean mask.
          evaluated: fraction of the trials to evaluate, or which ones, in the same way.
          max_bins: trials with more bins are left out; 0 for none.
          drifting: ``mask`` or ``keep``: whether the silence of units that are lost, or appear,
            half-way counts as not recorded.
          seed: of the random choices.

        Raises:
          UserError: something is none of these, or no trial can be cut.

        Warns:
          UserWarning: trials or spikes are left out, or behaviour is missing.
        """
        from stndt_jax.data import objects, spike_times, spike_trials  # which make recordings

        units = objects.spikes(spikes)
        series, own_names = (None, ()) if behavior is None else objects.series(behavior)
        options = spike_times.Options(
            name=name,
            heldout=heldout,
            evaluated=evaluated,
            split_column=split_column,
            condition_column=condition_column,
            series=series,
            behavior_names=behavior_names or own_names,
            behavior_unit=behavior_unit,
            seed=seed,
        )
        is_pair = np.ndim(window_ms) == 1 and len(window_ms) == 2  # type: ignore[arg-type]
        if is_pair != (events is not None):
            wanted = "the length of a window" if events is None else "a pair, begin and end"
            raise UserError(f"window_ms is {window_ms!r}; give {wanted}, ms")
        table = None if events is None else objects.events(events)
        starts = table is not None and not align and {"start", "end"} <= set(table.columns)
        if table is not None and not align:
            align = "start" if starts else table.default_align("align", condition_column)
        cut = spike_trials.Cut(
            align=align,
            window_ms=tuple(window_ms) if is_pair else (0.0, bin_ms),  # type: ignore[arg-type]
            bin_ms=bin_ms,
            until=until,
            forward_ms=bins_forward * bin_ms,
            lag_ms=lag_ms,
            max_bins=max_bins,
            drifting=drifting,
        )
        if table is not None:
            return spike_times.recording(units, table, cut, options)
        return spike_times.continuous(
            units,
            cut,
            window_ms=float(window_ms),  # type: ignore[arg-type]
            overlap_ms=overlap_ms,
            options=options,
        )


@dataclass(frozen=True)
class _Partition:
    """How a recording is divided.

    Attributes:
      train: indices of the training trials.
      eval: indices of the evaluated trials.
      neurons: indices of the neurons, held-in then held-out.
      heldin: number of held-in neurons.
      bins_observed: number of observed bins; the others are forward bins.
    """

    train: Int[NDArray, " R_train"]
    eval: Int[NDArray, " R_eval"]
    neurons: Int[NDArray, " N"]
    heldin: int
    bins_observed: int


@dataclass(frozen=True)
class _Recording:
    """The checked arrays of a recording, trials and neurons in the order in which they were given.

    The attributes are those of ``Trials``, counts of all blocks in one array.
    """

    counts: UInt[NDArray, "R T N"]
    recorded: Bool[NDArray, "R T N"]
    behavior: NDArray | None
    conditions: Int[NDArray, " R"] | None
    rates: NDArray | None
    starts: Float[NDArray, " R"] | None
    columns: tables.Columns

    def trials(self, rows: Int[NDArray, " r"], partition: _Partition) -> Trials:
        """The chosen trials, divided into blocks."""
        T_obs, N_in, order_N = partition.bins_observed, partition.heldin, partition.neurons
        counts_rTN = self.counts[rows][..., order_N]
        recorded_rTN = self.recorded[rows][..., order_N]
        blocks = {
            name: np.ascontiguousarray(counts_rTN[block_slices(name, T_obs, N_in)])
            for name in BLOCKS
        }
        behavior, rates = self.behavior, self.rates
        if behavior is not None:
            in_bins = behavior.ndim == 3
            behavior = (behavior[:, :T_obs] if in_bins else behavior)[rows].astype(np.float32)
        if rates is not None:
            rates = rates[rows][..., order_N].astype(np.float32)
        return Trials(
            **blocks,
            behavior=behavior,
            conditions=None if self.conditions is None else self.conditions[rows],
            rates=rates,
            recorded=None if recorded_rTN.all() else recorded_rTN,
            starts=None if self.starts is None else self.starts[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
        )


def _partition(
    shape: tuple[int, int, int],
    heldout: float | Sequence[int] | NDArray,
    evaluated: float | Sequence[int] | NDArray,
    bins_forward: int,
    seed: int,
) -> _Partition:
    """Chooses held-out neurons and evaluated trials.

    Raises:
      UserError: nothing would be left on one side.
    """
    R, T, N = shape
    if not 0 <= bins_forward < T:
        raise UserError(f"bins_forward is {bins_forward}; choose 0 to {T - 1} of the {T} bins")
    rng = np.random.default_rng(checked_whole("seed", seed))
    heldout_n = _chosen("heldout", heldout, N, "neurons", rng)
    heldin_n = np.setdiff1d(np.arange(N), heldout_n)
    evaluated_r = _chosen("evaluated", evaluated, R, "trials", rng)
    return _Partition(
        train=np.setdiff1d(np.arange(R), evaluated_r),
        eval=evaluated_r,
        neurons=np.concatenate([heldin_n, heldout_n]),
        heldin=len(heldin_n),
        bins_observed=T - bins_forward,
    )


def _chosen(
    option: str, given: float | Sequence[int] | NDArray, size: int, of: str, rng: Any
) -> Int[NDArray, " n"]:
    """Sorted indices of some of ``size`` items, from a fraction or from their indices.

    Raises:
      UserError: none or all of the items are chosen, or an index is wrong.
    """
    if isinstance(given, int | float | np.integer | np.floating) and not isinstance(given, bool):
        number = round(given * size) if 0 < given < 1 else 0
        if not 0 < number < size:
            raise UserError(
                f"{option} is {given:g} of {size} {of}; choose a fraction below 1 that leaves at "
                f"least one of the {of} on either side, or give a list of indices"
            )
        return np.sort(rng.permutation(size)[:number])
    listed = given_arrays.array(option, given)
    if listed.dtype == bool and listed.shape == (size,):
        listed = np.flatnonzero(listed)
    if listed.ndim != 1 or (listed.size and listed.dtype.kind not in "iu"):
        raise UserError(
            f"{option} is {reprlib.repr(given)}; give a fraction below 1, a list of indices, or a "
            f"boolean mask of the {size} {of}"
        )
    chosen = np.unique(listed)
    if chosen.size != listed.size or not 0 < chosen.size < size:
        raise UserError(
            f"{option} lists {listed.size} of {size} {of}; list indices, each once, some but not "
            f"all"
        )
    if chosen[0] < 0 or chosen[-1] >= size:
        raise UserError(
            f"{option} lists {chosen[-1] if chosen[0] >= 0 else chosen[0]}, but the "
            f"{of} are 0 to {size - 1}"
        )
    return chosen
