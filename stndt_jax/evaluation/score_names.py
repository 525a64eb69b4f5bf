"""What each score is called in figures and reports, its unit, and what it means."""

from __future__ import annotations

from typing import NamedTuple


class ScoreName(NamedTuple):
    """How a score is shown.

    Attributes:
        title: its name, a word or two.
        unit: empty for a number without one.
        meaning: one or two sentences for readers who do not know the benchmark.
    """

    title: str
    unit: str
    meaning: str

    @property
    def axis(self) -> str:
        """Label of an axis: the title, and the unit in brackets."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


SCORES = {
    "co-bps": ScoreName(
        "co-bps",
        "bits/spike",
        "How well the spikes of held-out neurons, which the model never sees, are predicted: bits "
        "per spike above a prediction by each neuron's mean rate. 0 is the mean rate; higher is "
        "better.",
    ),
    "fp-bps": ScoreName(
        "fp-bps",
        "bits/spike",
        "The same for the forward bins, which follow those that the model sees: forward "
        "prediction.",
    ),
    "vel R2": ScoreName(
        "velocity R²",
        "",
        "Fraction of the variance of hand velocity that a linear decoder explains from the rates; "
        "at most 1.",
    ),
    "tp corr": ScoreName(
        "tp corr",
        "",
        "Correlation between the speed of the population state and the interval that the animal "
        "produced; the closer to −1, the better.",
    ),
    "psth R2": ScoreName(
        "PSTH R²",
        "",
        "Fraction of the variance of recorded condition averages (PSTHs) that condition averages "
        "of the rates explain; at most 1.",
    ),
    "rate R2": ScoreName(
        "rate R²",
        "",
        "Fraction of the variance of the true rates that the rates explain, mean over neurons; "
        "known for simulated spikes only.",
    ),
    "co-bps / oracle": ScoreName(
        "co-bps / oracle",
        "",
        "co-bps as a fraction of that of the true rates, which no method can exceed on average.",
    ),
}
"""By the key of `scoring.score`, in the order in which scores are shown."""


def of(key: str) -> ScoreName:
    """The name of a score; one that is not in `SCORES` is called by its key."""
    return SCORES.get(key, ScoreName(key, "", ""))
