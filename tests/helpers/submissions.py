"""Random rates of a recording with forward bins, as a submission."""

from __future__ import annotations

import numpy as np

BLOCKS = {
    "heldin": ("observed", "in"),
    "heldout": ("observed", "out"),
    "heldin_forward": ("forward", "in"),
    "heldout_forward": ("forward", "out"),
}
TRIALS = {"train": 30, "eval": 24}
BINS = {"observed": 20, "forward": 6}
NEURONS = {"in": 7, "out": 4}


def random_submission(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        f"{split}_rates_{block}": rng.gamma(2.0, 0.2, (trials, BINS[bins], NEURONS[neurons]))
        for split, trials in TRIALS.items()
        for block, (bins, neurons) in BLOCKS.items()
    }
