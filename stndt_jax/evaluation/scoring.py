"""The benchmark's scores of a submission, for any recording.

The numbers come from nlb_tools' own functions. Its `evaluate` handles seven recordings by name;
`score` goes by what the targets hold instead, and agrees with it to the last digit on those seven.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Literal

import numpy as np
from scipy.linalg import LinAlgWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation.submission import checked
from stndt_jax.types import Float, NDArray

Kind = Literal["velocity", "interval", "none"]
"""What behaviour is scored: a velocity in every bin, a produced interval of every trial."""

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

    ================  =========================================================================
    score             present if
    ================  =========================================================================
    co_bps            a held-out neuron spikes in the observed bins
    vel_r2            kind is "velocity" and the targets hold the behaviour
    tp_corr           kind is "interval" and the targets hold the behaviour
    psth_r2           the targets hold PSTHs and the trials of their conditions
    fp_bps            both hold forward bins in which a neuron spikes
    rate_r2           the targets hold true rates, as simulated data do
    oracle_co_bps     the same: the co-bps of the true rates themselves
    co_bps_of_oracle  the same, and oracle_co_bps is above 0
    ================  =========================================================================

    Their labels and meanings are in `runs.score_names`. rate_r2 is, for each neuron, held-in and
    held-out, the coefficient of determination of its rates against its true rates over all
    observed bins of all evaluated trials, `1 - sum (true - rate)^2 / sum (true - mean true)^2`;
    then the mean over neurons whose true rate varies.

    Args:
        rates: the submission, arrays (R, bins, neurons) by key, counts per bin. Zeros are scored
            as 1e-9, as nlb_tools does.
        targets: a target group, as `hdf5.read_targets` or `hdf5.targets_of` gives it.
        kind: what behaviour to score; `kind_of` finds what the targets hold.

    Raises:
        UserError: nlb_tools is missing, or rates are missing, misshapen, negative or not finite.

    Source: F. Pei et al., Neural Latents Benchmark '21, NeurIPS 2021.
    """
    nlb = _nlb_tools()
    if "eval_spikes_heldout" not in targets:
        raise UserError("the targets hold no eval_spikes_heldout; give a target file with them")
    heldout_RTN = _float(targets["eval_spikes_heldout"])
    trials, bins, _ = heldout_RTN.shape
    eval_in = checked(rates, "eval_rates_heldin", (trials, bins, None))
    eval_out = checked(rates, "eval_rates_heldout", heldout_RTN.shape)
    eval_RTN = np.concatenate([eval_in, eval_out], axis=-1)

    found: dict[str, float] = {}
    if np.nansum(heldout_RTN) > 0:
        found["co_bps"] = _bits_per_spike(nlb, eval_out, heldout_RTN)
    if "eval_behavior" in targets:
        if kind == "velocity":
            found["vel_r2"] = _velocity(nlb, rates, targets, eval_RTN)
        elif kind == "interval":
            found["tp_corr"] = _interval(nlb, targets, heldout_RTN, eval_RTN)
    if "psth" in targets and "eval_cond_idx" in targets:
        found |= _psth(nlb, targets, eval_RTN)
    if "eval_spikes_heldin_forward" in targets and "eval_rates_heldin_forward" in rates:
        found |= _forward(nlb, rates, targets)
    if "eval_rates_true" in targets:
        found |= _true_rates(nlb, targets, heldout_RTN, eval_RTN)
    if "co_bps" in found and found.get("oracle_co_bps", 0.0) > 0:
        found["co_bps_of_oracle"] = found["co_bps"] / found["oracle_co_bps"]
    return {name: float(value) for name, value in found.items()}


def missing(data: SpikeData, targets: Mapping[str, NDArray]) -> list[str]:
    """Why a score that the recording leads to expect is not computed, in sentences.

    Args:
        data: the recording.
        targets: what it is scored against.
    """
    labels = data.eval.conditions
    if (
        labels is None
        or not np.any(labels >= 0)
        or ("psth" in targets and "eval_cond_idx" in targets)
    ):
        return []
    return [
        "PSTH R2 is not computed: the conditions of the trials are known, but the targets hold no "
        "PSTHs (psth, and the trials of each condition in eval_cond_idx) to compare with"
    ]


def decode(
    train_rates: Float[NDArray, "R T N"],
    train_behavior: Float[NDArray, "R T D"],
    eval_rates: Float[NDArray, "S U N"],
) -> Float[NDArray, "S U D"]:
    """Predicts behaviour, bin by bin, from rates with the benchmark's decoder.

    Ridge regression whose penalty is chosen among 9 values between 1e-4 and 1 by five-fold
    cross-validation. Bins where the behaviour is NaN are left out of the fit. The score of the
    result is vel_r2 if a recording has no decode masks.

    Args:
        train_rates: rates of training trials, counts per bin.
        train_behavior: their behaviour, in any unit.
        eval_rates: rates of the trials to decode.

    Returns:
        The predicted behaviour, in the unit of `train_behavior`.

    Warns:
        UserWarning: once, if the rates determine the decoder badly.
    """
    # As for scores in float64: float32 is not enough for the smallest penalties.
    y_SD = _float(train_behavior).reshape(-1, train_behavior.shape[-1])
    x_SN = _float(train_rates).reshape(-1, train_rates.shape[-1])
    known = ~np.isnan(y_SD).any(axis=1)
    if not known.any():
        raise UserError("no bin of the training trials has behaviour to fit a decoder to")
    with _one_warning():
        decoder = GridSearchCV(Ridge(), {"alpha": RIDGE_ALPHAS}).fit(x_SN[known], y_SD[known])
    predicted = decoder.predict(_float(eval_rates).reshape(-1, eval_rates.shape[-1]))
    return predicted.reshape(*eval_rates.shape[:2], -1)


@contextlib.contextmanager
def _one_warning() -> Iterator[None]:
    """Turns the warnings of all fits of a decoder about ill-conditioned matrices into one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LinAlgWarning)
        yield
    bad = [one for one in caught if issubclass(one.category, LinAlgWarning)]
    for one in caught:
        if one not in bad:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if bad:
        warnings.warn(
            f"the decoder of behaviour is badly determined (ill-conditioned matrix in {len(bad)} "
            "of its fits): rates of some neurons are nearly sums of those of others; vel R2 may be "
            "inaccurate",
            UserWarning,
            stacklevel=4,
        )


@contextlib.contextmanager
def _undefined(score: str, what: str) -> Iterator[None]:
    """Turns the exceptions of nlb_tools about targets that do not fit into one sentence."""
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


def _bits_per_spike(nlb: ModuleType, rates_RTN: NDArray, spikes_RTN: NDArray) -> float:
    with warnings.catch_warnings():
        # A neuron that was never recorded has no mean rate, and counts for nothing.
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return float(nlb.bits_per_spike(rates_RTN, spikes_RTN))


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
    train_in = checked(rates, "train_rates_heldin", (*shape, None))
    train_out = checked(rates, "train_rates_heldout", (*shape, None))
    train_RTN = np.concatenate([train_in, train_out], axis=-1)
    masks = ("train_decode_mask", "eval_decode_mask")
    if all(key in targets for key in masks):
        train_mask, eval_mask = (np.asarray(targets[key], bool) for key in masks)
    else:
        train_mask, eval_mask = (np.ones((len(x), 1), bool) for x in (train_RTN, eval_RTN))
    with _undefined("vel R2", "behaviour and decode masks"), _one_warning():
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
            f"tp-corr is undefined: {error}; every condition needs two evaluated trials or more"
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
    with _undefined("PSTH R2", "psth, eval_cond_idx and eval_jitter"):
        jitter = np.asarray(jitter).astype(int)
        return {"psth_r2": nlb.eval_psth(psth_CTN, eval_RTN, rows, jitter=jitter)}


def _forward(
    nlb: ModuleType, rates: Mapping[str, NDArray], targets: Mapping[str, NDArray]
) -> dict[str, float]:
    spikes, predicted = [], []
    for block in ("heldin_forward", "heldout_forward"):
        if f"eval_spikes_{block}" not in targets:
            raise UserError(f"the targets hold forward bins but no eval_spikes_{block}; add it")
        counts_RTN = _float(targets[f"eval_spikes_{block}"])
        spikes.append(counts_RTN)
        predicted.append(checked(rates, f"eval_rates_{block}", counts_RTN.shape))
    spikes_RTN = np.concatenate(spikes, axis=-1)
    if not np.nansum(spikes_RTN) > 0:
        return {}
    return {"fp_bps": _bits_per_spike(nlb, np.concatenate(predicted, axis=-1), spikes_RTN)}


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
        found["oracle_co_bps"] = _bits_per_spike(nlb, oracle_RTN, heldout_RTN)
    # NaN stands in bins that a short trial does not have.
    around = true_RTN - np.nanmean(true_RTN, axis=(0, 1))
    total_N = np.nansum(around**2, axis=(0, 1))
    error_N = np.nansum((true_RTN - eval_RTN) ** 2, axis=(0, 1))
    # A constant rate leaves rounding errors of about 1e-15 of itself in `around`.
    varies = np.nanmax(true_RTN, axis=(0, 1)) > np.nanmin(true_RTN, axis=(0, 1))
    if varies.any():
        found["rate_r2"] = np.mean(1 - error_N[varies] / total_N[varies])
    return found


def _float(x: NDArray) -> NDArray:
    """A float64 copy: nlb_tools writes into the arrays it is given."""
    return np.array(x, dtype=np.float64)
