"""The part of a report to look closer with: one trial, one neuron, all neurons of a trial.

Arrays travel as one byte a value, each neuron on a scale of its own, written as differences along
time and compressed; the page's script undoes that and draws.
"""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np

from stndt_jax.data.trials import evenly_spaced
from stndt_jax.report.markup import Html, data_script, tag
from stndt_jax.run import Run
from stndt_jax.types import Float, NDArray, Shaped, UInt

# Values of one array that travel; recordings with more show some of their trials.
MOST_VALUES = 3_000_000
UNKNOWN = 255  # in place of a count


def shown_trials(trials: int, bins: int, neurons: int) -> NDArray:
    """Which trials travel: all, or as many as there is room for, evenly spread."""
    most = max(4, MOST_VALUES // (bins * neurons))
    return evenly_spaced(trials, most)


def packed(x_RTN: UInt[NDArray, "R T N"]) -> str:
    """Bytes as text: (trials, neurons, bins), differences along time modulo 256, gzip, base64."""
    x_RNT = np.ascontiguousarray(x_RTN.swapaxes(1, 2))
    x_RNT[..., 1:] -= x_RNT[..., :-1].copy()
    # No time stamp, so that the same arrays give the same page.
    return base64.b64encode(gzip.compress(x_RNT.tobytes(), 9, mtime=0)).decode()


def quantised(
    rates_RTN: Float[NDArray, "R T N"], highest_N: Float[NDArray, " N"]
) -> UInt[NDArray, "R T N"]:
    """Rates as bytes, 255 for a neuron's highest."""
    shares = np.nan_to_num(rates_RTN) / np.maximum(highest_N, 1e-12)
    return np.clip(np.round(255 * shares), 0, 255).astype(np.uint8)


def payload(run: Run) -> dict[str, Any]:
    """What the page's script draws of the evaluated trials."""
    data, trials = run.data, run.trials("eval")
    rates_RTN = run.rates("eval")
    R, T, N = rates_RTN.shape
    rows = shown_trials(R, T, N)
    inferred_RTN, counts_RTN = rates_RTN[rows], run.counts("eval")[rows, :T]
    true_RTN = None if trials.rates is None else trials.rates[rows, :T]
    tops = [np.nan_to_num(x).max(axis=(0, 1)) for x in (inferred_RTN, true_RTN) if x is not None]
    highest_N = np.max(tops, axis=0)
    found = {
        "rates": packed(quantised(inferred_RTN, highest_N)),
        "counts": packed(_counted(counts_RTN)),
    }
    if true_RTN is not None:
        found["truth"] = packed(quantised(true_RTN, highest_N))
    hz = 1000.0 / data.bin_ms
    mean_N = rates_RTN.mean(axis=(0, 1)) * hz
    return {
        "bin_ms": data.bin_ms,
        "bins": T,
        "observed": data.bins_observed,
        "heldin": data.heldin,
        "trials": rows.tolist(),
        "conditions": None if trials.conditions is None else trials.conditions[rows].tolist(),
        "units": (np.arange(N) if data.units is None else data.units).tolist(),
        "highest": [round(float(x), 4) for x in highest_N * hz],
        "means": [round(float(x), 3) for x in mean_N],
        "peaks": rates_RTN.mean(axis=0).argmax(axis=0).tolist(),
        "arrays": found,
    }


def section(found: dict[str, Any], trials: int) -> list[Html]:
    """Controls and empty panels; the script fills them."""
    some = len(found["trials"])
    of = f"{some} of the {trials}" if some < trials else f"all {trials}"
    truth = "truth" in found["arrays"]
    controls = tag(
        "div",
        _choice("trial", "Trial"),
        _choice("neuron", "Neuron"),
        tag(
            "label",
            "Order of neurons",
            tag(
                "select",
                *(
                    tag("option", words, value=key)
                    for key, words in (
                        ("index", "as recorded"),
                        ("rate", "by mean rate"),
                        ("peak", "by time of peak"),
                    )
                ),
                id="order",
            ),
            class_="field",
        ),
        tag(
            "fieldset",
            tag("legend", "Show"),
            _switch("show-truth", "true rate", True) if truth else None,
            _switch("show-smooth", "smoothed spikes", not truth),
            class_="switches",
        ),
        class_="controls",
    )
    keys = [tag("span", "inferred rate", class_="key main")]
    if truth:
        keys.append(tag("span", "true rate", class_="key truth", id="key-show-truth"))
    keys += [
        tag("span", "spikes smoothed, 40 ms", class_="key smooth", id="key-show-smooth"),
        tag("span", "spikes", class_="key spikes"),
    ]
    return [
        tag(
            "p",
            f"Choose a trial and a neuron. Here are {of} evaluated trials. The model saw the spikes"
            " of held-in neurons in observed bins only; it never saw held-out neurons or the shaded"
            " forward bins, whose rates it predicts.",
        ),
        tag(
            "div",
            controls,
            tag("div", *keys, class_="keys", aria_hidden="true"),
            tag("div", class_="panel", id="rate-panel"),
            tag(
                "div",
                tag(
                    "figure",
                    tag("figcaption", "What was recorded: spikes"),
                    tag("canvas", id="raster", role="img", aria_label="spikes of all neurons"),
                ),
                tag(
                    "figure",
                    tag("figcaption", "What the model infers: rates, each neuron on its own scale"),
                    tag("canvas", id="heat", role="img", aria_label="rates of all neurons"),
                ),
                class_="pair",
            ),
            tag("p", id="summary", class_="summary", aria_live="polite"),
            tag(
                "p",
                "A row is a neuron; click on one to choose it. Held-out neurons stand below the "
                "line where neurons are in the order as recorded.",
                class_="note",
            ),
            class_="explorer",
            id="explorer",
            hidden=True,
        ),
        tag(
            "p",
            "This part needs JavaScript and a browser of 2023 or later.",
            class_="note",
            id="no-explorer",
        ),
        data_script("explorer-data", found),
    ]


def _choice(name: str, title: str) -> Html:
    return tag(
        "div",
        tag("label", title, for_=name),
        tag(
            "div",
            tag("button", "‹", type="button", id=f"{name}-before", aria_label=f"previous {name}"),
            tag("select", id=name),
            tag("button", "›", type="button", id=f"{name}-after", aria_label=f"next {name}"),
            class_="stepper",
        ),
        class_="field",
    )


def _switch(name: str, words: str, on: bool) -> Html:
    return tag("label", tag("input", type="checkbox", id=name, checked=on), f" {words}")


def _counted(counts_RTN: Shaped[NDArray, "R T N"]) -> UInt[NDArray, "R T N"]:
    known = np.isfinite(counts_RTN)
    return np.where(known, np.clip(np.nan_to_num(counts_RTN), 0, 254), UNKNOWN).astype(np.uint8)
