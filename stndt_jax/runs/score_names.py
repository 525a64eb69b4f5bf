"""The scores: their keys in JSON files and in Python, their labels, units and meanings.

Everything that prints or draws a score takes its label from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# Ends the key of a score's confidence interval, ``[low, high]``.
INTERVAL = "_interval"


class ScoreName(NamedTuple):
    """How a score is shown.

    Attributes:
        label: its name in text, ASCII.
        unit: empty for a number without one.
        meaning: one or two sentences for readers who do not know the benchmark.
    """

    label: str
    unit: str
    meaning: str


SCORES = {
    "co_bps": ScoreName(
        "co-bps",
        "bits/spike",
        "How well the spikes of held-out neurons, which the model never sees, are predicted: bits "
        "per spike above a prediction by each neuron's mean rate. 0 is the mean rate; higher is "
        "better.",
    ),
    "fp_bps": ScoreName(
        "fp-bps",
        "bits/spike",
        "The same for the forward bins, which follow those that the model sees: forward "
        "prediction.",
    ),
    "vel_r2": ScoreName(
        "vel R2",
        "",
        "Fraction of the variance of behaviour in every bin (in the benchmark, hand velocity) that "
        "a linear decoder explains from the rates; at most 1.",
    ),
    "tp_corr": ScoreName(
        "tp-corr",
        "",
        "Correlation between the speed of the population state and the last value of each trial's "
        "behaviour (in the benchmark, the interval that the animal produced); the closer to −1, "
        "the better.",
    ),
    "psth_r2": ScoreName(
        "PSTH R2",
        "",
        "Fraction of the variance of recorded condition averages (PSTHs) that condition averages "
        "of the rates explain; at most 1.",
    ),
    "rate_r2": ScoreName(
        "rate R2",
        "",
        "Fraction of the variance of the true rates that the rates explain, mean over neurons; "
        "known for simulated spikes only.",
    ),
    "co_bps_of_oracle": ScoreName(
        "co-bps / oracle",
        "",
        "co-bps as a fraction of that of the true rates, which no method can exceed on average.",
    ),
    "oracle_co_bps": ScoreName(
        "oracle co-bps",
        "bits/spike",
        "co-bps of the true rates; known for simulated spikes only.",
    ),
    "validation_co_bps": ScoreName(
        "validation co-bps",
        "bits/spike",
        "co-bps on the validation trials, which select the weights.",
    ),
}
"""By key, in the order in which scores are shown."""


def label(key: str) -> str:
    """The label of a score; of any other key, the key with spaces."""
    return SCORES[key].label if key in SCORES else key.replace("_", " ")


def meaning(key: str, behavior: Sequence[str] = ()) -> str:
    """The meaning of a score, of one of behaviour with the recording's own names of it.

    Args:
        key: of the score.
        behavior: names of the dimensions of behaviour; empty if they are unknown.
    """
    text = SCORES[key].meaning
    of = {"vel_r2": ", ".join(behavior), "tp_corr": behavior[-1] if behavior else ""}.get(key)
    return f"{text} Behaviour here is {of}." if of else text


def typeset(key: str) -> str:
    """The label of a score with a raised 2, for figures and pages."""
    return label(key).replace("R2", "R²")


def axis_label(key: str) -> str:
    """The typeset label of a score, with its unit in brackets, for the axis of a figure."""
    unit = SCORES[key].unit if key in SCORES else ""
    return f"{typeset(key)} ({unit})" if unit else typeset(key)
