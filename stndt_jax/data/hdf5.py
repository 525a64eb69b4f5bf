"""Recordings as HDF5 files, in the format of nlb_tools.

An input file holds what a model may see: ``train_spikes_heldin``, ``train_spikes_heldout``, the
same two keys with ``_forward`` appended, ``train_behavior`` and ``eval_spikes_heldin``. A target
file holds what the evaluated trials are scored against, in a group named after the recording
(with ``_20`` appended for 20 ms bins), and the true rates of simulated spikes. nlb_tools can read
both.

Keys that nlb_tools does not have: ``train_valid`` and ``eval_valid``, false where a count was not
recorded (padding of a short trial, a gap) and is stored as 0; ``train_starts_s`` and
``eval_starts_s``, the times of the trials in the recording; ``unit_ids``; ``train_trials_*`` and
``eval_trials_*``, columns of the trial table; ``units_*``, columns of the unit table;
``condition_names`` and ``behavior_names``, and the attribute ``behavior_unit``. The attribute
``pair_id`` is the same in an input file and the target file written with it.
"""

from __future__ import annotations

import hashlib
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax.data.trials import BLOCKS, SpikeData, Trials, block_slices
from stndt_jax.data.validation import Group, Sizes, open_group, ragged, write_group
from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Float, Int, NDArray

COND_IDX = ("train_cond_idx", "eval_cond_idx")
DECODE_MASKS = ("train_decode_mask", "eval_decode_mask")
TARGET_KEYS = (
    *("eval_spikes_heldout", "eval_spikes_heldin_forward", "eval_spikes_heldout_forward"),
    *("train_behavior", "eval_behavior", "psth", "train_jitter", "eval_jitter"),
    *("train_rates_true", "eval_rates_true"),
)
_TARGETS_ARE = "a target file holds the counts to be predicted"
DEFAULT_BIN_MS = 5.0  # nlb_tools' bin width, for files that do not contain it


def group_name(name: str, bin_ms: float) -> str:
    """The name of a recording's group in target and submission files, e.g. ``mc_maze_20``.

    Args:
      name: name of the recording.
      bin_ms: bin width, ms.
    """
    return f"{name}_20" if bin_ms == 20 else name


def read(
    path: str | Path,
    targets: str | Path | None = None,
    *,
    name: str | None = None,
    expected: str | None = None,
    bin_ms: float | None = None,
) -> SpikeData:
    """Reads an input file and, if given, the target file that completes it.

    Args:
      path: HDF5 input file, its keys at the top level or in a group.
      targets: HDF5 target file, for the keys that the input file does not have.
      name: name of the recording in place of the one in the files. Default: the name in the files,
        else ``expected``, else the input file's own name.
      expected: name in a configuration. It chooses a group of a file that has several, and is the
        name of a recording whose files state none; it never contradicts the files.
      bin_ms: bin width, ms. Default: the width in the files, else 5.

    Raises:
      UserError: a file or key is missing or damaged, or holds values that spike data cannot have.

    Warns:
      UserWarning: some neurons never spike, or were not recorded, in the training trials; or the
        target file belongs to another recording.
    """
    with ExitStack() as stack:
        groups = _open(stack, path, targets, name, expected, bin_ms)
        width = _bin_ms(bin_ms, name or _name(groups) or expected, groups) or DEFAULT_BIN_MS
        data = _data(groups, _title(path, groups, name, expected, width), width)
        if other := _other_targets(groups):
            warnings.warn(other, stacklevel=2)
    _warn_dead(data, path)
    return data


def targets_beside(path: str | Path) -> Path | None:
    """The file ``NAME_target`` beside an input file, as ``stndt prepare`` names it; None without.

    Args:
      path: input file.
    """
    path = Path(path)
    found = path.with_name(f"{path.stem}_target{path.suffix}")
    return found if found.is_file() else None


def other_targets(
    path: str | Path,
    targets: str | Path,
    *,
    expected: str | None = None,
    bin_ms: float | None = None,
) -> str:
    """A sentence if a target file belongs to another input file; empty otherwise.

    Empty also where this is unknown: without ``pair_id`` in both files, only the behaviour of the
    training trials, if both have it, can show a difference.

    Args:
      path: input file.
      targets: target file.
      expected: as for :func:`read`.
      bin_ms: as for :func:`read`.

    Raises:
      UserError: a file is missing or damaged.
    """
    with ExitStack() as stack:
        return _other_targets(_open(stack, path, targets, None, expected, bin_ms))


def _other_targets(groups: list[Group]) -> str:
    """As :func:`other_targets`, of the open groups of a recording."""
    if len(groups) < 2:
        return ""
    ids = [group.text("pair_id") for group in groups]
    if None not in ids:
        differs = ids[0] != ids[1]
    elif all("train_behavior" in group.keys for group in groups):
        x, y = (group.floats("train_behavior", allow_nan=True) for group in groups)
        differs = x.shape == y.shape and _is_far(x, y)
    else:
        return ""
    if not differs:
        return ""
    return (
        f"the targets {groups[1].path} belong to another recording than {groups[0].path}, so that "
        f"scores against them mean nothing; give the target file that was made with the recording"
    )


def _is_far(x: NDArray, y: NDArray) -> bool:
    """Whether two arrays of one shape differ where neither is NaN, by more than rounding."""
    known = ~(np.isnan(x) | np.isnan(y))
    return not np.allclose(x[known], y[known], rtol=1e-3, atol=1e-6)


def stated_name(
    path: str | Path, targets: str | Path | None = None, expected: str | None = None
) -> str:
    """The name that :func:`read` gives a recording if none is asked for.

    Args:
      path: input file.
      targets: target file.
      expected: as for :func:`read`.

    Raises:
      UserError: a file is missing or damaged.
    """
    with ExitStack() as stack:
        groups = _open(stack, path, targets, None, expected, None)
        width = _bin_ms(None, _name(groups) or expected, groups) or DEFAULT_BIN_MS
        return _title(path, groups, None, expected, width)


def _open(
    stack: ExitStack,
    path: str | Path,
    targets: str | Path | None,
    name: str | None,
    expected: str | None,
    bin_ms: float | None,
) -> list[Group]:
    """Opens the group of a recording in its input file and, if there is one, its target file."""
    candidates = _group_candidates(name or expected, bin_ms)
    groups = [stack.enter_context(open_group(path, candidates, strict=name is not None))]
    if targets is not None:
        stated = name or _name(groups)
        width = _bin_ms(bin_ms, stated or expected, groups)
        candidates = _group_candidates(stated, width) + _group_candidates(expected, width)
        strict = name is not None
        groups.append(stack.enter_context(open_group(targets, candidates, strict=strict)))
        groups[1].require(["eval_spikes_heldout"], _TARGETS_ARE)
    return groups


def _title(
    path: str | Path, groups: list[Group], name: str | None, expected: str | None, bin_ms: float
) -> str:
    """The name of a recording, without the ``_20`` of a group.

    A name that a file states in its attribute is whole, even if it ends in ``_20``.

    Raises:
      UserError: it cannot be the name of a group.
    """
    title = name or _name(groups) or expected or Path(path).stem
    stated = [group.text("name") for group in groups]
    if bin_ms == 20 and title not in stated:
        title = title.removesuffix("_20")
    if not title.isprintable() or "/" in title or title in ("", "."):
        raise UserError(
            f"{path} is a recording named {title!r}, which cannot be the name of a group in a "
            f"file; name it in the file's attribute name, or rename the file"
        )
    return title


def read_targets(
    path: str | Path,
    name: str | None = None,
    *,
    expected: str | None = None,
    bin_ms: float | None = None,
) -> dict[str, NDArray]:
    """Reads a group of a target file in the form that nlb_tools' evaluation takes.

    Args:
      path: HDF5 target file.
      name: name of the recording, with or without ``_20``, to choose one of several groups; the
        only group is read whatever its name is.
      expected: another name to look for.
      bin_ms: bin width of the recording, ms, if it is known.

    Returns:
      The arrays of all keys that the evaluation uses, as stored; ``*_cond_idx`` as object arrays
      of integer arrays, ``*_decode_mask`` as booleans.

    Raises:
      UserError: the file or the group is missing, damaged, or not a target group.
    """
    candidates = _group_candidates(name, bin_ms) + _group_candidates(expected, bin_ms)
    with open_group(path, candidates, strict=False) as group:
        group.require(["eval_spikes_heldout"], _TARGETS_ARE)
        found = {key: group.numbers(key) for key in TARGET_KEYS if key in group.keys}
        found |= {key: group.numbers(key) != 0 for key in DECODE_MASKS if key in group.keys}
        found |= {key: ragged(group.index_lists(key)) for key in COND_IDX if key in group.keys}
    return found


def targets_of(data: SpikeData) -> dict[str, NDArray]:
    """What the evaluated trials are scored against, under nlb_tools' keys.

    Counts that were not recorded are NaN.

    Raises:
      UserError: the held-out counts of the evaluated trials are withheld.
    """
    if data.eval.heldout is None:
        raise UserError(
            f"{data.name} has no held-out counts of its evaluated trials, so there are no targets; "
            "read the data together with a target file"
        )
    found: dict[str, NDArray | None] = {}
    for name in list(BLOCKS)[1:]:
        block = getattr(data.eval, name)
        if block is not None and block.size:
            if data.eval.recorded is not None:
                recorded = data.eval.recorded[block_slices(name, data.bins_observed, data.heldin)]
                block = block if recorded.all() else np.where(recorded, block, np.float32(np.nan))
            found[f"eval_spikes_{name}"] = block
    labels = [t.conditions for t in (data.train, data.eval) if t.conditions is not None]
    most = max((int(x.max()) + 1 for x in labels), default=0)
    conditions = most if data.psth is None else len(data.psth)
    for split, trials in (("train", data.train), ("eval", data.eval)):
        found[f"{split}_behavior"] = trials.behavior
        found[f"{split}_rates_true"] = trials.rates
        if trials.conditions is not None and conditions:
            rows = [np.flatnonzero(trials.conditions == c) for c in range(conditions)]
            found[f"{split}_cond_idx"] = ragged(rows)
    found["psth"] = data.psth
    return {key: array for key, array in found.items() if array is not None}


def write(data: SpikeData, path: str | Path, *, keep_other: bool = False) -> None:
    """Writes an input file: the training trials, and held-in counts of the evaluated trials.

    An existing file is replaced as a whole; with ``keep_other``, only if it holds the same.

    Raises:
      UserError: the file cannot be written.
    """
    arrays = {f"train_spikes_{name}": getattr(data.train, name) for name in BLOCKS}
    arrays["train_behavior"] = data.train.behavior
    arrays["train_conditions"] = data.train.conditions
    arrays["eval_spikes_heldin"] = data.eval.heldin
    for split, trials in (("train", data.train), ("eval", data.eval)):
        arrays[f"{split}_starts_s"] = trials.starts
        # Targets mark what was not recorded by NaN.
        if data.gaps or (split == "train" and trials.recorded is not None):
            arrays[f"{split}_valid"] = trials.recorded
        arrays |= {f"{split}_trials_{name}": x for name, x in trials.columns.items()}
    arrays["unit_ids"] = data.units
    arrays |= {f"units_{name}": column for name, column in data.unit_columns.items()}
    arrays["condition_names"] = np.array(data.condition_names, "U")
    arrays["behavior_names"] = np.array(data.behavior_names, "U")
    present = {key: x for key, x in arrays.items() if x is not None and x.size}
    unit = {"behavior_unit": data.behavior_unit} if data.behavior_unit else {}
    attributes = _attributes(data) | {"pair_id": _pair_id(data)} | unit
    write_group(path, None, present, attributes, keep_other=keep_other)


def write_targets(data: SpikeData, path: str | Path, *, keep_other: bool = False) -> None:
    """Writes the target file that belongs to the input file of ``write``, in the same way.

    Raises:
      UserError: the targets are withheld, or the file cannot be written.
    """
    group = group_name(data.name, data.bin_ms)
    attributes = _attributes(data) | {"pair_id": _pair_id(data)}
    write_group(path, group, targets_of(data), attributes, keep_other=keep_other)


def _attributes(data: SpikeData) -> dict[str, str | float]:
    return {"name": data.name, "bin_ms": float(data.bin_ms)}


def _pair_id(data: SpikeData) -> str:
    """What an input file and its target file have in common: a digest of the model's inputs."""
    digest = hashlib.sha256()
    for block in (data.train.heldin, data.train.heldout, data.eval.heldin):
        if block is not None:
            digest.update(f"{block.shape}".encode())
            digest.update(np.ascontiguousarray(block, np.float32).tobytes())
    return digest.hexdigest()


def _data(groups: list[Group], name: str, bin_ms: float) -> SpikeData:
    """Reads a recording from the input group and, after it, the target group if there is one."""
    source, sizes = groups[0], Sizes()
    source.require(
        ["train_spikes_heldin", "train_spikes_heldout"],
        "co-smoothing needs held-in and held-out counts of the same training trials",
    )
    source.require(["eval_spikes_heldin"], "evaluation needs held-in counts of other trials")
    forward = ["train_spikes_heldin_forward", "train_spikes_heldout_forward"]
    if any(key in source.keys for key in forward):
        source.require(forward, "forward prediction needs both of them, or neither")
    else:
        sizes.set("forward bins", 0, "the training split, which has no forward keys,")
    blocks = {split: _blocks(split, groups, sizes) for split in ("train", "eval")}
    # Before the extras of the trials: the PSTHs say how many conditions there are.
    psth, units = _psth(groups, sizes), _units(source, sizes)
    return SpikeData(
        train=Trials(**blocks["train"], **_extras("train", groups, sizes)),
        eval=Trials(**blocks["eval"], **_extras("eval", groups, sizes)),
        name=name,
        bin_ms=bin_ms,
        psth=psth,
        units=units,
        unit_columns=_columns("units_", source, "neurons", sizes),
        behavior_names=_names("behavior_names", source, sizes.get("behavioral dimensions")),
        behavior_unit=source.text("behavior_unit") or "",
        condition_names=_names("condition_names", source, None),
    )


def _blocks(split: str, groups: list[Group], sizes: Sizes) -> dict[str, Any]:
    """Reads the blocks of a split, and where they were recorded; attributes of ``Trials``."""
    blocks: dict[str, NDArray | None] = dict.fromkeys(BLOCKS)
    has_count: dict[str, NDArray] = {}
    for name, (bins, neurons) in BLOCKS.items():
        key = f"{split}_spikes_{name}"
        # Targets may have forward bins although the recording was cut without them.
        no_forward = bins == "forward bins" and sizes.get(bins) == 0
        group = _first_with(key, groups[:1] if no_forward else groups)
        if group is not None:
            is_target = split == "eval" and name != "heldin"
            block, has_count[name] = group.counts(key, allow_nan=is_target)
            sizes.check(group.where(key), block.shape, (f"{split} trials", bins, neurons))
            blocks[name] = block
        elif no_forward:
            blocks[name] = np.zeros((sizes[f"{split} trials"], 0, sizes[neurons]), np.uint8)
    T, N_in = sizes["observed bins"], sizes["held-in neurons"]
    sizes.set("bins", T + sizes["forward bins"], "the counts")
    sizes.set("neurons", N_in + sizes["held-out neurons"], "the counts")
    recorded_RTN = _recorded(split, groups[0], has_count, sizes)
    if recorded_RTN is not None:
        for name, stored in blocks.items():
            if stored is not None:
                recorded = recorded_RTN[block_slices(name, T, N_in)]
                blocks[name] = np.where(recorded, stored, 0)
    return {**blocks, "recorded": recorded_RTN}


def _recorded(
    split: str, source: Group, has_count: dict[str, NDArray], sizes: Sizes
) -> Bool[NDArray, "R T N"] | None:
    """Where a split was recorded, from the input file and from NaN targets; None if everywhere."""
    key, labels = f"{split}_valid", (f"{split} trials", "bins", "neurons")
    stored_RTN = source.numbers(key) != 0 if key in source.keys else None
    if stored_RTN is not None:
        sizes.check(source.where(key), stored_RTN.shape, labels)
    elif all(block.all() for block in has_count.values()):
        return None
    recorded_RTN = np.ones([sizes[label] for label in labels], bool)
    for name, block in has_count.items():
        slices = block_slices(name, sizes["observed bins"], sizes["held-in neurons"])
        recorded_RTN[slices] = block
    return recorded_RTN if stored_RTN is None else recorded_RTN & stored_RTN


def _extras(split: str, groups: list[Group], sizes: Sizes) -> dict[str, Any]:
    """Reads what a split may have besides counts; attributes of ``Trials``."""
    behavior = rates = starts = None
    trials = f"{split} trials"
    if group := _first_with(key := f"{split}_behavior", groups):
        behavior = group.floats(key, allow_nan=True).astype(np.float32)
        time = () if behavior.ndim == 2 else ("observed bins",)
        sizes.check(group.where(key), behavior.shape, (trials, *time, "behavioral dimensions"))
    if group := _first_with(key := f"{split}_rates_true", groups):
        rates = group.floats(key, allow_nan=True, negative=False).astype(np.float32)
        sizes.check(group.where(key), rates.shape, (trials, "bins", "neurons"))
    conditions = _conditions(split, groups, sizes)
    if group := _first_with(key := f"{split}_starts_s", groups[:1]):
        starts = group.floats(key).astype(np.float64)
        sizes.check(group.where(key), starts.shape, (trials,))
    columns = _columns(f"{split}_trials_", groups[0], trials, sizes)
    found = {"behavior": behavior, "rates": rates, "conditions": conditions}
    return {**found, "starts": starts, "columns": columns}


def _columns(prefix: str, source: Group, rows: str, sizes: Sizes) -> dict[str, NDArray]:
    """Reads the columns of a table, which are the keys that begin with its prefix."""
    found = {}
    for key in source.keys:
        if key.startswith(prefix):
            column = found[key.removeprefix(prefix)] = source.column(key)
            sizes.check(source.where(key), column.shape, (rows,))
    return found


def _names(key: str, source: Group, number: int | None) -> tuple[str, ...]:
    """Reads names; those of another number of things are left out."""
    names = tuple(map(str, source.column(key).flat)) if key in source.keys else ()
    return names if number in (None, len(names)) else ()


def _conditions(split: str, groups: list[Group], sizes: Sizes) -> Int[NDArray, " R"] | None:
    # Targets first: they number the conditions as their psth does.
    if group := _first_with(key := f"{split}_cond_idx", groups[::-1]):
        conditions, number = group.partition(key, sizes[f"{split} trials"])
        sizes.check(group.where(key), (number,), ("conditions",))
        return conditions
    if group := _first_with(key := f"{split}_conditions", groups):
        conditions = group.labels(key, sizes.get("conditions"))
        sizes.check(group.where(key), conditions.shape, (f"{split} trials",))
        return conditions
    return None


def _psth(groups: list[Group], sizes: Sizes) -> Float[NDArray, "C T_obs N"] | None:
    group = _first_with("psth", groups[::-1])
    if group is None:
        return None
    group.require(["eval_cond_idx"], "psth needs the trials of every condition")
    psth = group.floats("psth", allow_nan=True, negative=False).astype(np.float64)
    sizes.check(group.where("psth"), psth.shape, ("conditions", "observed bins", "neurons"))
    return psth


def _units(source: Group, sizes: Sizes) -> Int[NDArray, " N"] | None:
    if "unit_ids" not in source.keys:
        return None
    units = source.labels("unit_ids", None).astype(np.int64)
    sizes.check(source.where("unit_ids"), units.shape, ("neurons",))
    return units


def _first_with(key: str, groups: list[Group]) -> Group | None:
    """The first group that has the key."""
    return next((group for group in groups if key in group.keys), None)


def _group_candidates(name: str | None, bin_ms: float | None) -> list[str]:
    """Names that the recording's group may have, the most likely one first."""
    if name is None:
        return []
    if bin_ms not in (None, 20):
        return [name]
    if name.endswith("_20"):
        return [name, f"{name}_20"]
    return [f"{name}_20", name] if bin_ms == 20 else [name, f"{name}_20"]


def _bin_ms(given: float | None, name: str | None, groups: list[Group]) -> float | None:
    """The bin width: from the files, as given, or from the name of a group; None without any."""
    for group in groups:
        stored = group.positive("bin_ms")
        if stored is not None and given is not None and stored != given:
            raise UserError(
                f"{group.where('bin_ms')} is {stored:g}, but {given:g} is expected; leave bin_ms "
                "out, or bin the spikes again"
            )
        given = stored or given
    if given is not None:
        return float(given)
    names = [name, *(group.name for group in groups)]
    return 20.0 if any(x is not None and x.endswith("_20") for x in names) else None


def _name(groups: list[Group]) -> str | None:
    """The recording's name in the files; None if they have none."""
    names = [group.text("name") for group in groups] + [group.name for group in groups]
    return next((name for name in names if name), None)


def _warn_dead(data: SpikeData, path: str | Path) -> None:
    sizes = (data.bins_forward, data.heldout)
    silent_N = ~data.train.counts(*sizes).any(axis=(0, 1))
    missing_N = ~data.train.has_count(*sizes).any(axis=(0, 1))
    for dead_N, what in (
        (silent_N & ~missing_N, "never spike in the training trials"),
        (missing_N, "were not recorded in the training trials"),
    ):
        dead = np.flatnonzero(dead_N)
        if not dead.size:
            continue
        names = [
            f"held-in {n}" if n < data.heldin else f"held-out {n - data.heldin}" for n in dead[:10]
        ]
        if data.units is not None:
            names = [str(unit) for unit in data.units[dead[:10]]]
            names[0] = f"unit{'s' * (dead.size > 1)} {names[0]}"
        more = f" and {dead.size - 10} more" if dead.size > 10 else ""
        warnings.warn(
            f"{path}: {dead.size} of {data.neurons} neurons {what}: {', '.join(names)}{more}",
            UserWarning,
            stacklevel=3,
        )
