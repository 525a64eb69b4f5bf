"""The benchmark's scores of a submission, for any recording, and the submission's file.

The numbers come from nlb_tools' own functions. Its `evaluate` knows seven recordings by name;
`score` asks what the targets hold instead, and agrees with it to the last digit on those seven.

A submission is a dict of rates, expected counts per bin, under nlb_tools' key names (`KEYS`).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Literal

import h5py
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from stndt_jax import files
from stndt_jax.data.hdf5 import group_name
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.types import Float, NDArray

Kind = Literal["velocity", "interval", "none"]
"""What behaviour is scored: a velocity in every bin, a produced interval of every trial."""

BLOCKS = ("heldin", "heldout", "heldin_forward", "heldout_forward")
KEYS = tuple(f"{split}_rates_{block}" for split in ("train", "eval") for block in BLOCKS)
# nlb_tools' decoder of hand velocity.
RIDGE_ALPHAS = np.logspace(-4, 0, 9)


def kind_of(targets: Mapping[str, NDArray]) -> Kind:
    """What behaviour the targets hold, by its shape.

    Three axes (trials, bins, dimensions) are a velocity, two (trials, values) are DMFC_RSG's
    interval task with the produced interval in the last column.
    """
    if "eval_behavior" not in targets:
        return "none"
    return "velocity" if np.ndim(targets["eval_behavior"]) == 3 else "interval"


def score(
    rates: Mapping[str, NDArray], targets: Mapping[str, NDArray], *, kind: Kind
) -> dict[str, float]:
    """Scores a submission against the targets of the evaluated trials.

    ===============  ==========================================================================
    score            present where
    ===============  ==========================================================================
    co-bps           a held-out neuron spikes in the observed bins
    vel R2           kind is "velocity" and the targets hold the behaviour
    tp corr          kind is "interval" and the targets hold the behaviour
    psth R2          the targets hold PSTHs and the trials of their conditions
    fp-bps           both hold forward bins in which a neuron spikes
    rate R2          the targets hold true rates, as simulated data do
    oracle co-bps    the same: the co-bps that the true rates themselves reach
    co-bps / oracle  the same, and the oracle is above 0
    ===============  ==========================================================================

    rate R2 is, for each neuron, held-in and held-out, the coefficient of determination of its
    rates against its true rates over all observed bins of all evaluated trials,
    `1 - sum (true - rate)^2 / sum (true - mean true)^2`; then the mean over neurons whose true
    rate varies.

    Args:
        rates: the submission, (R, bins, neurons) a key, counts per bin. Zeros are scored as
            1e-9, as nlb_tools does.
        targets: a target group, as `data.spikes.read_targets` or `targets_of` gives it.
        kind: what behaviour to score; `kind_of` tells what the targets hold.

    Raises:
        UserError: nlb_tools is missing, or rates are missing, misshapen, negative or not finite.

    Source: F. Pei et al., Neural Latents Benchmark '21, NeurIPS 2021.
    """
    nlb = _nlb_tools()
    if "eval_spikes_heldout" not in targets:
        raise UserError("the targets hold no eval_spikes_heldout; give a target file with them")
    heldout_RTN = _float(targets["eval_spikes_heldout"])
    trials, bins, _ = heldout_RTN.shape
    eval_in = _take(rates, "eval_rates_heldin", (trials, bins, None))
    eval_out = _take(rates, "eval_rates_heldout", heldout_RTN.shape)
    eval_RTN = np.concatenate([eval_in, eval_out], axis=-1)

    found: dict[str, float] = {}
    if np.nansum(heldout_RTN) > 0:
        found["co-bps"] = nlb.bits_per_spike(eval_out, heldout_RTN)
    if "eval_behavior" in targets:
        if kind == "velocity":
            found["vel R2"] = _velocity(nlb, rates, targets, eval_RTN)
        elif kind == "interval":
            found["tp corr"] = _interval(nlb, targets, heldout_RTN, eval_RTN)
    if "psth" in targets and "eval_cond_idx" in targets:
        found |= _psth(nlb, targets, eval_RTN)
    if "eval_spikes_heldin_forward" in targets and "eval_rates_heldin_forward" in rates:
        found |= _forward(nlb, rates, targets)
    if "eval_rates_true" in targets:
        found |= _true_rates(nlb, targets, heldout_RTN, eval_RTN)
    if "co-bps" in found and found.get("oracle co-bps", 0.0) > 0:
        found["co-bps / oracle"] = found["co-bps"] / found["oracle co-bps"]
    return {name: float(value) for name, value in found.items()}


def check_submission(rates: Mapping[str, NDArray], data: SpikeData) -> None:
    """Refuses rates that do not fit a recording.

    The rates of held-in and held-out neurons in observed bins must be there for training and
    evaluated trials, and those in forward bins for evaluated trials where the recording has
    forward bins.

    Raises:
        UserError: a key is missing or unknown, a shape differs from the recording's, or a rate,
            in the file's float32, is not finite or not above 0.
    """
    _known_keys(rates)
    for key in KEYS:
        split, _, block = key.split("_", 2)
        forward = block.endswith("_forward")
        # A recording without forward bins has no rates for them; training trials need none.
        optional = forward and (split == "train" or data.bins_forward == 0)
        if optional and key not in rates:
            continue
        shape = (
            len(data.train if split == "train" else data.eval),
            data.bins_forward if forward else data.bins_observed,
            data.heldout if "heldout" in block else data.heldin,
        )
        rates_RTN = _take(rates, key, shape).astype(np.float32)
        if np.any(rates_RTN <= 0):
            raise UserError(
                f"{key} holds {np.sum(rates_RTN <= 0)} rates that are 0; rates must be above 0, "
                "for a spike under a rate of 0 is infinitely unlikely"
            )


def check_units(rates: Mapping[str, NDArray], data: SpikeData) -> None:
    """Refuses rates that are in spikes/s: by their mean, against that of the counts.

    Rates are taken for spikes/s where their mean is nearer, as a ratio, to the mean count per
    second than to the mean count per bin.

    Raises:
        UserError: they are.
    """
    per_second = 1000.0 / data.bin_ms
    blocks = {"train_rates_heldin": data.train.heldin, "train_rates_heldout": data.train.heldout}
    for key, counts in (blocks | {"eval_rates_heldin": data.eval.heldin}).items():
        if key not in rates or counts is None or not counts.any():
            continue
        ratio = float(np.mean(rates[key])) / float(counts.mean())
        if ratio > per_second**0.5:
            raise UserError(
                f"{key} is {ratio:.0f} times the mean count per bin, so it is in spikes/s, it "
                f"seems; write expected counts per bin: divide by {per_second:g}"
            )


def write_submission(
    path: str | Path, name: str, rates: Mapping[str, NDArray], *, bin_ms: float
) -> None:
    """Writes a submission file, as the benchmark's server and nlb_tools read it.

    The rates stand as float32 in a group named after the recording, with `_20` behind it for
    20 ms bins. The file appears whole or not at all, and replaces one of the same name.

    Raises:
        UserError: a key is unknown, or the file cannot be written there.
    """
    _known_keys(rates)
    path = Path(path)
    # Built in memory: HDF5 reports a full disk as a RuntimeError at some later moment.
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        group = file.create_group(group_name(name, bin_ms))
        for key, rates_RTN in rates.items():
            group.create_dataset(key, data=np.asarray(rates_RTN, np.float32))
    files.write_bytes(path, image.getbuffer())


def read_submission(path: str | Path, name: str | None = None) -> dict[str, NDArray]:
    """Reads the rates of a submission file.

    Args:
        path: HDF5 file.
        name: its group, `_20` included; None takes the only group there is.

    Raises:
        UserError: no such file or group, several groups and no name, or an unknown key.
    """
    try:
        with h5py.File(path, "r") as file:
            groups = sorted(key for key, item in file.items() if isinstance(item, h5py.Group))
            if name is None and len(groups) == 1:
                name = groups[0]
            if name is None or name not in groups:
                wanted = "no single group" if name is None else f"no group {name}"
                present = ", ".join(groups) or "none"
                raise UserError(
                    f"{path} has {wanted}; groups present: {present}; name the data set with --name"
                )
            rates = {key: np.asarray(dataset[()]) for key, dataset in file[name].items()}
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        # h5py meets damaged bytes, and groups in place of arrays, with any of these.
        raise UserError(f"the submission {path} cannot be read: {error}; write it again") from error
    _known_keys(rates)
    for key, rates_RTN in rates.items():
        if rates_RTN.dtype.kind not in "buif":
            raise UserError(f"{key} of {path} holds no numbers ({rates_RTN.dtype}); write it again")
    return rates


def joined(rates: Mapping[str, NDArray], split: str) -> NDArray:
    """A submission's rates of one split as one array (R, T, N), forward bins where it has them."""
    ends = ["", "_forward"] if f"{split}_rates_heldin_forward" in rates else [""]
    parts = [
        np.concatenate([rates[f"{split}_rates_{n}{end}"] for n in ("heldin", "heldout")], axis=-1)
        for end in ends
    ]
    return np.concatenate(parts, axis=1)


def decode(
    train_rates: Float[NDArray, "R T N"],
    train_behavior: Float[NDArray, "R T D"],
    eval_rates: Float[NDArray, "S U N"],
) -> Float[NDArray, "S U D"]:
    """Predicts behaviour, bin by bin, from rates with the benchmark's decoder.

    Ridge regression whose penalty is chosen among 9 values between 1e-4 and 1 by five-fold
    cross-validation. Bins with an unknown (NaN) behaviour are left out of the fit. The score of
    the result is "vel R2" where a recording has no decode masks.

    Args:
        train_rates: rates of training trials, counts per bin.
        train_behavior: their behaviour, in any unit.
        eval_rates: rates of the trials to decode.

    Returns:
        The predicted behaviour, in the unit of `train_behavior`.
    """
    y_SD = train_behavior.reshape(-1, train_behavior.shape[-1])
    x_SN = train_rates.reshape(-1, train_rates.shape[-1])
    known = ~np.isnan(y_SD).any(axis=1)
    if not known.any():
        raise UserError("no bin of the training trials has a known behaviour to fit a decoder to")
    decoder = GridSearchCV(Ridge(), {"alpha": RIDGE_ALPHAS}).fit(x_SN[known], y_SD[known])
    predicted = decoder.predict(eval_rates.reshape(-1, eval_rates.shape[-1]))
    return predicted.reshape(*eval_rates.shape[:2], -1)


@contextlib.contextmanager
def _fit_told(score: str, what: str) -> Iterator[None]:
    """Holds calls of nlb_tools only, which meets targets that do not fit with these."""
    try:
        yield
    except (ValueError, IndexError) as error:
        raise UserError(f"{score} is undefined: {error}; check {what} of the targets") from error


def _nlb_tools() -> ModuleType:
    try:
        from nlb_tools import evaluation
    except ModuleNotFoundError as error:
        raise UserError(
            f"scoring needs nlb_tools ({error}); run: pip install --no-deps nlb_tools==0.0.4"
        ) from error
    return evaluation


def _velocity(
    nlb: ModuleType,
    rates: Mapping[str, NDArray],
    targets: Mapping[str, NDArray],
    eval_RTN: NDArray,
) -> float:
    if "train_behavior" not in targets:
        raise UserError("the targets hold eval_behavior but no train_behavior; add it to decode")
    train_RTD, eval_RTD = (_float(targets[f"{split}_behavior"]) for split in ("train", "eval"))
    if train_RTD.ndim != 3 or eval_RTD.ndim != 3:
        raise UserError(
            f'kind "velocity" needs behaviour of shape (trials, bins, dimensions), but the targets '
            f'hold train {train_RTD.shape} and eval {eval_RTD.shape}; "interval" is for one row '
            "a trial"
        )
    shape = train_RTD.shape[:2]
    train_in = _take(rates, "train_rates_heldin", (*shape, None))
    train_out = _take(rates, "train_rates_heldout", (*shape, None))
    train_RTN = np.concatenate([train_in, train_out], axis=-1)
    masks = ("train_decode_mask", "eval_decode_mask")
    if all(key in targets for key in masks):
        train_mask, eval_mask = (np.asarray(targets[key], bool) for key in masks)
    else:
        train_mask, eval_mask = (np.ones((len(x), 1), bool) for x in (train_RTN, eval_RTN))
    with _fit_told("vel R2", "behaviour and decode masks"):
        return nlb.velocity_decoding(
            train_RTN, train_RTD, train_mask, eval_RTN, eval_RTD, eval_mask
        )


def _interval(
    nlb: ModuleType, targets: Mapping[str, NDArray], heldout_RTN: NDArray, eval_RTN: NDArray
) -> float:
    behavior_RD = _float(targets["eval_behavior"])
    if behavior_RD.ndim != 2:
        raise UserError(
            'kind "interval" needs behaviour with one row a trial, but the targets hold '
            f'eval_behavior of shape {behavior_RD.shape}; "velocity" is for a value in every bin'
        )
    try:
        return nlb.speed_tp_correlation(heldout_RTN, eval_RTN, behavior_RD)
    except ValueError as error:
        raise UserError(
            f"tp corr is undefined: {error}; every condition needs two evaluated trials or more"
        ) from error


def _psth(nlb: ModuleType, targets: Mapping[str, NDArray], eval_RTN: NDArray) -> dict[str, float]:
    rows = [np.asarray(row, int) for row in targets["eval_cond_idx"]]
    psth_CTN = _float(targets["psth"])
    if psth_CTN.shape[1:] != eval_RTN.shape[1:] or len(psth_CTN) != len(rows):
        raise UserError(
            f"psth of the targets has shape {psth_CTN.shape}, but there are {len(rows)} conditions "
            f"in eval_cond_idx and rates of shape {eval_RTN.shape[1:]} a trial"
        )
    if not any(row.size for row in rows):
        return {}
    jitter = targets.get("eval_jitter", np.zeros(len(eval_RTN)))
    with _fit_told("psth R2", "psth, eval_cond_idx and eval_jitter"):
        jitter = np.asarray(jitter).astype(int)
        return {"psth R2": nlb.eval_psth(psth_CTN, eval_RTN, rows, jitter=jitter)}


def _forward(
    nlb: ModuleType, rates: Mapping[str, NDArray], targets: Mapping[str, NDArray]
) -> dict[str, float]:
    spikes, predicted = [], []
    for block in ("heldin_forward", "heldout_forward"):
        if f"eval_spikes_{block}" not in targets:
            raise UserError(f"the targets hold forward bins but no eval_spikes_{block}; add it")
        counts_RTN = _float(targets[f"eval_spikes_{block}"])
        spikes.append(counts_RTN)
        predicted.append(_take(rates, f"eval_rates_{block}", counts_RTN.shape))
    spikes_RTN = np.concatenate(spikes, axis=-1)
    if not np.nansum(spikes_RTN) > 0:
        return {}
    return {"fp-bps": nlb.bits_per_spike(np.concatenate(predicted, axis=-1), spikes_RTN)}


def _true_rates(
    nlb: ModuleType, targets: Mapping[str, NDArray], heldout_RTN: NDArray, eval_RTN: NDArray
) -> dict[str, float]:
    true_RTN = _float(targets["eval_rates_true"])
    trials, bins, neurons = eval_RTN.shape
    if true_RTN.shape[0] != trials or true_RTN.shape[1] < bins or true_RTN.shape[2] != neurons:
        raise UserError(
            f"eval_rates_true of the targets has shape {true_RTN.shape}, but the rates have "
            f"{eval_RTN.shape}: trials, observed bins and all neurons must be the same"
        )
    true_RTN = true_RTN[:, :bins]
    found = {}
    if np.nansum(heldout_RTN) > 0:
        oracle_RTN = true_RTN[..., neurons - heldout_RTN.shape[-1] :].copy()
        found["oracle co-bps"] = nlb.bits_per_spike(oracle_RTN, heldout_RTN)
    # NaN stands in bins that a short trial does not have.
    around = true_RTN - np.nanmean(true_RTN, axis=(0, 1))
    total_N = np.nansum(around**2, axis=(0, 1))
    error_N = np.nansum((true_RTN - eval_RTN) ** 2, axis=(0, 1))
    # A constant rate leaves rounding errors of about 1e-15 of itself in `around`.
    varies = np.nanmax(true_RTN, axis=(0, 1)) > np.nanmin(true_RTN, axis=(0, 1))
    if varies.any():
        found["rate R2"] = np.mean(1 - error_N[varies] / total_N[varies])
    return found


def _float(x: NDArray) -> NDArray:
    """A float64 copy: nlb_tools writes into the arrays it is given."""
    return np.array(x, dtype=np.float64)


def _take(
    rates: Mapping[str, NDArray], key: str, shape: tuple[int | None, ...]
) -> Float[NDArray, "R T N"]:
    """A checked float64 copy of one array; None in the shape stands for any size."""
    if key not in rates:
        raise UserError(f"the rates hold no {key}; present: {', '.join(rates) or 'nothing'}")
    rates_RTN = _float(rates[key])
    same = rates_RTN.ndim == len(shape) and all(
        want in (None, size) for size, want in zip(rates_RTN.shape, shape, strict=True)
    )
    if not same:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise UserError(f"{key} has shape {rates_RTN.shape}; the data demand ({wanted})")
    bad = ~np.isfinite(rates_RTN) | (rates_RTN < 0)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise UserError(
            f"{key} holds {rates_RTN[index]} at {index}; rates must be finite and above 0: "
            "expected counts per bin, not log-rates"
        )
    return rates_RTN


def _known_keys(rates: Mapping[str, NDArray]) -> None:
    unknown = sorted(set(rates) - set(KEYS))
    if unknown:
        raise UserError(f"unknown keys {', '.join(unknown)}; a submission holds {', '.join(KEYS)}")
