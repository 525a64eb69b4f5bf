"""Binned spikes of a recording and their HDF5 form, which is nlb_tools' own.

An input file holds what a model may see: `train_spikes_heldin`, `train_spikes_heldout`,
the two with `_forward` behind them, `train_behavior` and `eval_spikes_heldin`. A target
file holds, in a group named after the recording (with `_20` behind it for 20 ms bins), what
the evaluated trials are scored against. True rates, where spikes are simulated, stand with
the targets. nlb_tools' evaluation reads both as they are.

What nlb_tools has no key for: `train_valid` and `eval_valid`, false where a count was not
recorded (padding of a short trial, a gap) and is stored as 0; `train_starts_s` and
`eval_starts_s`, the times of the trials in the recording; `unit_ids`.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax.data.trials import BLOCKS, SpikeData, Trials, block_slices
from stndt_jax.data.validation import Group, Sizes, open_group, write_group
from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Int, NDArray

COND_IDX = ("train_cond_idx", "eval_cond_idx")
DECODE_MASKS = ("train_decode_mask", "eval_decode_mask")
TARGET_KEYS = (
    *("eval_spikes_heldout", "eval_spikes_heldin_forward", "eval_spikes_heldout_forward"),
    *("train_behavior", "eval_behavior", "psth", "train_jitter", "eval_jitter"),
    *("train_rates_true", "eval_rates_true"),
)
TARGETS_ARE = "a target file holds the counts to be predicted"
DEFAULT_BIN_MS = 5.0  # nlb_tools' bin width where a file does not say


def group_name(name: str, bin_ms: float) -> str:
    """The group a recording has in target and submission files, e.g. `mc_maze_20`."""
    return f"{name}_20" if bin_ms == 20 else name


def read(
    path: str | Path,
    targets: str | Path | None = None,
    *,
    name: str | None = None,
    bin_ms: float | None = None,
) -> SpikeData:
    """Reads an input file and, where given, the target file that completes it.

    Args:
        path: HDF5 input file; its keys at the top level or in a group.
        targets: HDF5 target file, which fills what the input file does not hold.
        name: name of the recording. Default: what the files say, else the file's own name.
        bin_ms: bin width in ms. Default: what the files say, else 5.

    Raises:
        UserError: a file or key is missing, damaged, or holds what spike data cannot hold.

    Warns:
        UserWarning: some neurons never spike in the training trials.
    """
    with ExitStack() as stack:
        source = stack.enter_context(open_group(path, _group_candidates(name, bin_ms), strict=True))
        groups = [source]
        if targets is not None:
            names = _group_candidates(name or _name(groups), _bin_ms(bin_ms, name, groups))
            strict = name is not None
            groups.append(stack.enter_context(open_group(targets, names, strict=strict)))
            groups[1].require(["eval_spikes_heldout"], TARGETS_ARE)
        width = _bin_ms(bin_ms, name, groups) or DEFAULT_BIN_MS
        title = name or _name(groups) or Path(path).stem
        title = title.removesuffix("_20") if width == 20 else title
        if not title.isprintable() or "/" in title or title in ("", "."):
            raise UserError(
                f"{path} is a recording named {title!r}, which no group of a file can be named; "
                f"name it with config.data.name"
            )
        data = _data(groups, title, width)
    _warn_dead(data, path)
    return data


def read_targets(path: str | Path, name: str | None = None) -> dict[str, NDArray]:
    """Reads a group of a target file as nlb_tools' evaluation takes it.

    Args:
        path: HDF5 target file.
        name: name of the recording, with or without `_20`. Default: the only group.

    Returns:
        Every known key with its array as stored; `*_cond_idx` are object arrays of integer
        arrays, `*_decode_mask` boolean.

    Raises:
        UserError: the file or the group is missing or damaged, or is no target group.
    """
    with open_group(path, _group_candidates(name, None), strict=True) as group:
        group.require(["eval_spikes_heldout"], TARGETS_ARE)
        found = {key: group.numbers(key) for key in TARGET_KEYS if key in group.keys}
        found |= {key: group.numbers(key) != 0 for key in DECODE_MASKS if key in group.keys}
        found |= {key: ragged(group.index_lists(key)) for key in COND_IDX if key in group.keys}
    return found


def targets_of(data: SpikeData) -> dict[str, NDArray]:
    """What the evaluated trials are scored against, under nlb_tools' key names.

    Counts that are not valid are NaN.

    Raises:
        UserError: the held-out counts of the evaluated trials are not known.
    """
    if data.eval.heldout is None:
        raise UserError(
            f"the held-out counts of {data.name}'s evaluated trials are not known, so there are no "
            "targets; read the data together with a target file"
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


def write(data: SpikeData, path: str | Path) -> None:
    """Writes an input file: the training trials, and held-in counts of the evaluated ones.

    The file appears whole or not at all, and replaces one of the same name.

    Raises:
        UserError: it cannot be written there.
    """
    arrays = {f"train_spikes_{name}": getattr(data.train, name) for name in BLOCKS}
    arrays["train_behavior"] = data.train.behavior
    arrays["train_conditions"] = data.train.conditions
    arrays["eval_spikes_heldin"] = data.eval.heldin
    for split, trials in (("train", data.train), ("eval", data.eval)):
        arrays[f"{split}_starts_s"] = trials.starts
        # Targets tell by NaN what is not known of them.
        if data.gaps or (split == "train" and trials.recorded is not None):
            arrays[f"{split}_valid"] = trials.recorded
    arrays["unit_ids"] = data.units
    present = {key: x for key, x in arrays.items() if x is not None and x.size}
    write_group(path, None, present, _attributes(data))


def write_targets(data: SpikeData, path: str | Path) -> None:
    """Writes the target file that belongs to `write`'s input file.

    Raises:
        UserError: the targets are not known, or it cannot be written there.
    """
    group = group_name(data.name, data.bin_ms)
    write_group(path, group, targets_of(data), _attributes(data))


def _attributes(data: SpikeData) -> dict[str, str | float]:
    return {"name": data.name, "bin_ms": float(data.bin_ms)}


def _data(groups: list[Group], name: str, bin_ms: float) -> SpikeData:
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
        sizes.settle("forward bins", 0, "the training split, which has no forward keys,")
    train, known = _counts("train", groups, sizes)
    evaluated, recorded = _counts("eval", groups, sizes)
    psth, group = None, _holder("psth", groups[::-1])
    if group:
        group.require(["eval_cond_idx"], "psth needs the trials of every condition")
        psth = group.floats("psth", unknown=True, negative=False).astype(np.float64)
        sizes.agree(group.where("psth"), psth.shape, ("conditions", "observed bins", "neurons"))
    units = source.labels("unit_ids", None).astype(np.int64) if "unit_ids" in source.keys else None
    if units is not None:
        sizes.agree(source.where("unit_ids"), units.shape, ("neurons",))
    return SpikeData(
        Trials(**train, **_extras("train", groups, sizes), recorded=known),
        Trials(**evaluated, **_extras("eval", groups, sizes), recorded=recorded),
        name=name,
        bin_ms=bin_ms,
        psth=psth,
        units=units,
    )


def _counts(
    split: str, groups: list[Group], sizes: Sizes
) -> tuple[dict[str, Any], Bool[NDArray, "R T N"] | None]:
    """Reads a split's blocks, and where their counts are valid if somewhere they are not."""
    blocks: dict[str, Any] = {}
    known: dict[str, NDArray] = {}
    for name, (bins, neurons) in BLOCKS.items():
        key = f"{split}_spikes_{name}"
        # Targets may reach further than a recording that was cut without forward bins.
        cut = bins == "forward bins" and sizes.get(bins) == 0
        group = _holder(key, groups[:1] if cut else groups)
        if group:
            unknown = split == "eval" and name != "heldin"
            blocks[name], known[name] = group.counts(key, unknown=unknown)
            sizes.agree(group.where(key), blocks[name].shape, (f"{split} trials", bins, neurons))
        elif cut:
            blocks[name] = np.zeros((sizes[f"{split} trials"], 0, sizes[neurons]), np.uint8)
        else:
            blocks[name] = None
    T, N_in = sizes["observed bins"], sizes["held-in neurons"]
    sizes.settle("bins", T + sizes["forward bins"], "the counts")
    sizes.settle("neurons", N_in + sizes["held-out neurons"], "the counts")
    labels = (f"{split} trials", "bins", "neurons")
    key, stated = f"{split}_valid", None
    if key in groups[0].keys:
        stated = groups[0].numbers(key) != 0
        sizes.agree(groups[0].where(key), stated.shape, labels)
    elif all(x.all() for x in known.values()):
        return blocks, None
    valid_RTN = np.ones([sizes[label] for label in labels], bool)
    for name, x in known.items():
        valid_RTN[block_slices(name, T, N_in)] = x
    if stated is not None:
        valid_RTN &= stated
        for name, block in blocks.items():
            if block is not None:
                blocks[name] = np.where(valid_RTN[block_slices(name, T, N_in)], block, 0)
    return blocks, valid_RTN


def _extras(split: str, groups: list[Group], sizes: Sizes) -> dict[str, Any]:
    """Reads what a split may have beside its counts."""
    behavior, rates = None, None
    trials = f"{split} trials"
    if group := _holder(key := f"{split}_behavior", groups):
        behavior = group.floats(key, unknown=True).astype(np.float32)
        time = () if behavior.ndim == 2 else ("observed bins",)
        sizes.agree(group.where(key), behavior.shape, (trials, *time, "behavioral dimensions"))
    if group := _holder(key := f"{split}_rates_true", groups):
        rates = group.floats(key, unknown=True, negative=False).astype(np.float32)
        sizes.agree(group.where(key), rates.shape, (trials, "bins", "neurons"))
    conditions, starts = _conditions(split, groups, sizes), None
    if group := _holder(key := f"{split}_starts_s", groups[:1]):
        starts = group.floats(key).astype(np.float64)
        sizes.agree(group.where(key), starts.shape, (trials,))
    return {"behavior": behavior, "rates": rates, "conditions": conditions, "starts": starts}


def _conditions(split: str, groups: list[Group], sizes: Sizes) -> Int[NDArray, " R"] | None:
    # Targets first: they number the conditions as their psth does.
    if group := _holder(key := f"{split}_cond_idx", groups[::-1]):
        conditions, number = group.partition(key, sizes[f"{split} trials"])
        sizes.agree(group.where(key), (number,), ("conditions",))
        return conditions
    if group := _holder(key := f"{split}_conditions", groups):
        conditions = group.labels(key, sizes.get("conditions"))
        sizes.agree(group.where(key), conditions.shape, (f"{split} trials",))
        return conditions
    return None


def _holder(key: str, groups: list[Group]) -> Group | None:
    return next((group for group in groups if key in group.keys), None)


def _group_candidates(name: str | None, bin_ms: float | None) -> list[str]:
    if name is None:
        return []
    if name.endswith("_20") or bin_ms not in (None, 20):
        return [name]
    return [f"{name}_20", name] if bin_ms == 20 else [name, f"{name}_20"]


def _bin_ms(asked: float | None, name: str | None, groups: list[Group]) -> float | None:
    """The bin width: as the files state it, as asked, or as a group's name tells."""
    for group in groups:
        stated = group.positive("bin_ms")
        if stated is not None and asked is not None and stated != asked:
            raise UserError(
                f"{group.where('bin_ms')} is {stated:g}, but it is to be {asked:g}; leave bin_ms "
                "out, or bin the spikes again"
            )
        asked = stated or asked
    if asked is not None:
        return float(asked)
    names = [name, *(group.name for group in groups)]
    return 20.0 if any(x is not None and x.endswith("_20") for x in names) else None


def _name(groups: list[Group]) -> str | None:
    """The recording's name as the files tell it."""
    told = [group.text("name") for group in groups] + [group.name for group in groups]
    return next((name for name in told if name), None)


def ragged(rows: list[NDArray]) -> NDArray:
    """An object array of arrays, which numpy would make two-dimensional for equal lengths."""
    ragged = np.empty(len(rows), object)
    for number, row in enumerate(rows):
        ragged[number] = row
    return ragged


def _warn_dead(data: SpikeData, path: str | Path) -> None:
    spikes_N = data.train.counts(data.bins_forward, data.heldout).sum(axis=(0, 1), dtype=np.int64)
    dead = np.flatnonzero(spikes_N == 0)
    if dead.size:
        names = [
            f"held-in {n}" if n < data.heldin else f"held-out {n - data.heldin}" for n in dead[:10]
        ]
        more = f" and {dead.size - 10} more" if dead.size > 10 else ""
        warnings.warn(
            f"{path}: {dead.size} of {data.neurons} neurons never spike in the training trials: "
            f"{', '.join(names)}{more}",
            UserWarning,
            stacklevel=3,
        )
