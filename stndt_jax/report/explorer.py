"""The interactive part of a report: one trial, one neuron, all neurons of a trial.

The page holds the arrays as one byte per value, each neuron on its own scale, stored as differences
along time and compressed. The page's script (`page.js`) undoes that and draws.
"""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np

from stndt_jax.data import labels
from stndt_jax.data.trials import evenly_spaced
from stndt_jax.evaluation.baselines import SHOWN_SD_MS
from stndt_jax.interpret.rankings import mean_known
from stndt_jax.report.markup import Html, data_script, tag
from stndt_jax.run import Run
from stndt_jax.types import Bool, Float, NDArray, Shaped, UInt

# Values of one array in a page; of larger recordings, only some trials are included.
MOST_VALUES = 3_000_000
UNKNOWN = 255  # in place of a count

# Values and labels of the menu that sorts the neurons; page.js knows the values.
_ORDERS = {
    "area": "by area",
    "index": "as recorded",
    "rate": "by mean rate",
    "peak": "by time of peak",
}


def shown_trials(trials: int, bins: int, neurons: int) -> NDArray:
    """Which trials a page includes: all, or as many evenly spaced ones as there is room for."""
    return evenly_spaced(trials, max(4, MOST_VALUES // (bins * neurons)))


def packed(x_RTN: UInt[NDArray, "R T N"]) -> str:
    """Bytes as text: (trials, neurons, bins), differences along time modulo 256, gzip, base64."""
    x_RNT = np.ascontiguousarray(x_RTN.swapaxes(1, 2))
    x_RNT[..., 1:] -= x_RNT[..., :-1].copy()
    # Without a time stamp, so that the same arrays give the same page.
    return base64.b64encode(gzip.compress(x_RNT.tobytes(), 9, mtime=0)).decode()


def quantised(
    rates_RTN: Float[NDArray, "R T N"], highest_N: Float[NDArray, " N"]
) -> UInt[NDArray, "R T N"]:
    """Rates as bytes, 255 for a neuron's highest rate."""
    relative_RTN = np.nan_to_num(rates_RTN) / np.maximum(highest_N, 1e-12)
    return np.clip(np.round(255 * relative_RTN), 0, 255).astype(np.uint8)


def payload(run: Run) -> dict[str, Any]:
    """The data of the evaluated trials that the page's script draws.

    Nothing of the bins that a short trial does not have is part of a mean, a highest rate or a
    peak, or is drawn; ``spans`` has the first bin of a trial and the one after its last.
    """
    data, trials = run.data, run.trials("eval")
    in_trial_RT = trials.in_trial(data.bins)
    rates_RTN = np.where(in_trial_RT[..., None], run.rates("eval"), np.nan)
    R, T, N = rates_RTN.shape
    rows = shown_trials(R, T, N)
    inferred_RTN, counts_RTN = rates_RTN[rows], run.counts("eval")[rows, :T]
    true_RTN = None
    if trials.rates is not None:
        true_RTN = np.where(in_trial_RT[rows][..., None], trials.rates[rows, :T], np.nan)
    highest = [np.nan_to_num(x).max(axis=(0, 1)) for x in (inferred_RTN, true_RTN) if x is not None]
    highest_N = np.max(highest, axis=0)
    arrays = {
        "rates": packed(quantised(inferred_RTN, highest_N)),
        "counts": packed(_count_bytes(counts_RTN)),
    }
    if true_RTN is not None:
        arrays["truth"] = packed(quantised(true_RTN, highest_N))
    hz = 1000.0 / data.bin_ms
    mean_TN = mean_known(rates_RTN, axis=0)
    mean_N = mean_known(rates_RTN, axis=(0, 1)) * hz
    return {
        "bin_ms": data.bin_ms,
        "bins": T,
        "observed": data.bins_observed,
        "heldin": data.heldin,
        "trials": [labels.trial(data, "eval", r).text for r in rows.tolist()],
        "spans": _spans(in_trial_RT[rows]),
        "neurons": [labels.neuron(data, n) for n in range(N)],
        "areas": labels.areas(data),
        "smoothing_ms": SHOWN_SD_MS,
        "highest": [round(float(x), 4) for x in highest_N * hz],
        "means": [round(float(x), 3) for x in mean_N],
        "peaks": np.nan_to_num(mean_TN).argmax(axis=0).tolist(),
        "arrays": arrays,
    }


def _spans(in_trial_RT: Bool[NDArray, "R T"]) -> list[list[int]]:
    """The first bin of every trial, and the one after its last."""
    first_R = in_trial_RT.argmax(axis=1)
    return np.stack([first_R, first_R + in_trial_RT.sum(axis=1)], axis=1).tolist()


def section(found: dict[str, Any], trials: int) -> list[Html]:
    """Controls and empty panels, which the page's script fills.

    Args:
        found: result of `payload`.
        trials: number of evaluated trials.
    """
    some = len(found["trials"])
    which = f"{some} of the {trials}" if some < trials else f"all {trials}"
    has_truth = "truth" in found["arrays"]
    has_forward = found["observed"] < found["bins"]
    unseen = "held-out neurons"
    if has_forward:
        unseen += " or the shaded forward bins"
    text = (
        f"Choose a trial and a neuron; {which} evaluated trials are included. The model's input is "
        f"the spikes of held-in neurons in observed bins. It never sees the {unseen}, whose rates "
        "it predicts."
    )
    if any(last - first < found["bins"] for first, last in found["spans"]):
        text += " Trials differ in length: nothing is drawn where a trial has no bins."
    rows = "Each row is a neuron; click on it to choose it."
    if found["areas"]:
        rows += " By area, lines separate the areas, and held-in neurons come first in each."
    rows += " In the order as recorded, held-out neurons are below the line."
    if has_forward:
        rows += " The dashed line is the beginning of the forward bins."
    needs = "This part needs JavaScript and a browser of 2023 or later."
    return [
        tag("p", text),
        tag(
            "div",
            _controls(has_truth, bool(found["areas"])),
            _legend(has_truth, found["smoothing_ms"]),
            tag("div", class_="panel", id="rate-panel"),
            _populations(),
            tag("p", id="summary", class_="summary", aria_live="polite"),
            tag("p", rows, class_="note"),
            class_="explorer",
            id="explorer",
            hidden=True,
        ),
        tag("p", needs, class_="note", id="no-explorer"),
        data_script("explorer-data", found),
    ]


def _controls(has_truth: bool, has_areas: bool) -> Html:
    """Menus for the trial, the neuron and the order of neurons, and switches for the curves."""
    orders = {key: label for key, label in _ORDERS.items() if key != "area" or has_areas}
    options = [tag("option", label, value=key) for key, label in orders.items()]
    order = tag("select", *options, id="order")
    return tag(
        "div",
        _stepper("trial", "Trial"),
        _stepper("neuron", "Neuron"),
        tag("label", "Order of neurons", order, class_="field"),
        tag(
            "fieldset",
            tag("legend", "Show"),
            _switch("show-truth", "true rate", True) if has_truth else None,
            _switch("show-smooth", "smoothed spikes", not has_truth),
            class_="switches",
        ),
        class_="controls",
    )


def _legend(has_truth: bool, smoothing_ms: float) -> Html:
    """The curves' colours."""
    smoothed = f"spikes smoothed by a Gaussian of {smoothing_ms:g} ms"
    keys = [
        tag("span", "inferred rate", class_="key main"),
        tag("span", "true rate", class_="key truth", id="key-show-truth") if has_truth else None,
        tag("span", smoothed, class_="key smooth", id="key-show-smooth"),
        tag("span", "spikes", class_="key spikes"),
    ]
    return tag("div", *keys, class_="keys", aria_hidden="true")


def _populations() -> Html:
    """All neurons of the chosen trial: spikes, and rates beside them."""
    panels = {
        "raster": ("Recorded spikes", "spikes of all neurons"),
        "heat": ("Inferred rates, each neuron on its own scale", "rates of all neurons"),
    }
    figures = [
        tag(
            "figure",
            tag("figcaption", caption),
            tag("canvas", id=name, role="img", aria_label=label),
        )
        for name, (caption, label) in panels.items()
    ]
    return tag("div", *figures, class_="pair")


def _stepper(name: str, title: str) -> Html:
    """A menu between a button for the previous and one for the next entry."""
    before, after = (
        tag("button", sign, type="button", id=f"{name}-{where}", aria_label=f"{word} {name}")
        for sign, where, word in (("‹", "before", "previous"), ("›", "after", "next"))
    )
    menu = tag("div", before, tag("select", id=name), after, class_="stepper")
    return tag("div", tag("label", title, for_=name), menu, class_="field")


def _switch(name: str, label: str, on: bool) -> Html:
    return tag("label", tag("input", type="checkbox", id=name, checked=on), f" {label}")


def _count_bytes(counts_RTN: Shaped[NDArray, "R T N"]) -> UInt[NDArray, "R T N"]:
    """Counts as bytes, at most 254; `UNKNOWN` for NaN."""
    has_count = np.isfinite(counts_RTN)
    counts_RTN = np.clip(np.nan_to_num(counts_RTN), 0, 254)
    return np.where(has_count, counts_RTN, UNKNOWN).astype(np.uint8)
