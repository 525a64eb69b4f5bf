"""Calibration of rates: mean observed counts against mean predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from scipy.stats import chi2

from stndt_jax.plotting import style
from stndt_jax.plotting.style import HELDIN, HELDOUT, OTHERS, styled
from stndt_jax.types import Bool, Float, NDArray, Shaped


class Calibration(NamedTuple):
    """Predicted and observed counts in groups of equally many entries, by predicted rate.

    Attributes:
        predicted: mean predicted count per bin of every group, lowest first.
        observed: mean observed count per bin.
        low: lower end of the 95% interval of the observed mean, for Poisson counts.
        high: upper end.
    """

    predicted: Float[NDArray, " G"]
    observed: Float[NDArray, " G"]
    low: Float[NDArray, " G"]
    high: Float[NDArray, " G"]


def calibration_of(
    rates: Float[NDArray, "..."],
    counts: Shaped[NDArray, "..."],
    has_count: Bool[NDArray, "..."],
    groups: int = 10,
) -> Calibration:
    """Groups entries by their predicted rate and averages predictions and counts.

    The interval of a mean of Poisson counts is exact (Garwood, Biometrika 1936): quantiles of
    chi-squared distributions.

    Args:
        rates: predictions, counts per bin.
        counts: observed counts.
        has_count: which entries to use.
        groups: number of groups.
    """
    rates_S, counts_S = np.asarray(rates, float)[has_count], np.asarray(counts, float)[has_count]
    parts = np.array_split(np.argsort(rates_S, kind="stable"), groups)
    parts = [part for part in parts if len(part)]
    size = np.array([len(part) for part in parts], float)
    total = np.array([counts_S[part].sum() for part in parts])
    low = np.where(total > 0, chi2.ppf(0.025, np.maximum(2 * total, 1)) / 2, 0.0)
    high = chi2.ppf(0.975, 2 * total + 2) / 2
    predicted = np.array([rates_S[part].mean() for part in parts])
    return Calibration(predicted, total / size, low / size, high / size)


@styled
def calibration(found: Mapping[str, Calibration], *, bin_ms: float, narrow: bool = False) -> Figure:
    """Observed against predicted rate by deciles of the prediction; they agree on the diagonal.

    Args:
        found: by the neurons that they are of; the first is drawn black, the second orange.
        bin_ms: bin width, ms.
        narrow: for a phone, which is as wide.
    """
    fig = Figure(figsize=(style.NARROW, 3.1), layout="constrained")
    ax = fig.subplots()
    means = [one.predicted for one in found.values()] + [one.observed for one in found.values()]
    values = style.hz(np.concatenate(means) if means else np.zeros(0), bin_ms)
    positive = values[values > 0] if np.any(values > 0) else np.ones(1)
    ends = (0.6 * positive.min(), 1.6 * positive.max())
    ax.plot(ends, ends, color=OTHERS, linewidth=0.8, linestyle="--", zorder=0)
    look: dict[str, Any] = {"markersize": 3.5, "linewidth": 0.8, "capsize": 1.5, "fmt": "o"}
    for (name, one), color in zip(found.items(), (HELDIN, HELDOUT), strict=False):
        predicted, observed, low, high = (style.hz(x, bin_ms) for x in one)
        # Of a group without spikes, a logarithmic axis shows only the upper end of the interval.
        observed = np.maximum(observed, ends[0])
        errors = np.stack([observed - np.maximum(low, ends[0]), high - observed])
        ax.errorbar(
            predicted, observed, yerr=np.maximum(errors, 0), color=color, label=name, **look
        )
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    # Over more than two decades, numbers at 2 and 5 would lie on one another.
    decades = np.log10(ends[1] / ends[0])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.set(xlabel="predicted rate (spikes/s)", ylabel="observed rate (spikes/s)")
    style.legend_above(fig, ax, 2)
    return fig
