"""Dimension letters and array aliases, written once.

Names inside functions end in the letters of their axes (``x_BTN``); public signatures
carry the same letters as jaxtyping shapes, which are checked when the tests run.

======  ==============================================================
letter  meaning
======  ==============================================================
K       members of a population of models trained together
R       trials of a data set
B       trials in a batch
T       time bins, observed then forward (``T = T_obs + T_fwd``)
N       neurons, held-in then held-out (``N = N_in + N_out``)
H       attention heads
L       layers
F       feed-forward width
D       behavioural dimensions (2 for a hand velocity)
C       conditions
======  ==============================================================

Rates are expected spike counts per bin unless a name ends in ``_hz``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped, UInt
else:
    try:
        from jaxtyping import Bool, Float, Int, Shaped, UInt
    except ImportError:  # jaxtyping is for readers and tests; training does without it

        class _Unchecked:
            def __class_getitem__(cls, item):
                return item[0]

        Bool = Float = Int = Shaped = UInt = _Unchecked

Array = jax.Array
NDArray = np.ndarray
Params = dict[str, Any]


@dataclass(frozen=True)
class Dims:
    """Sizes of one trial: observed then forward bins, held-in then held-out neurons.

    ``gaps`` tells whether some trial has observed bins that were not recorded, such as the padding
    of a short trial: models then take no notice of them.
    """

    bins_observed: int
    bins_forward: int
    heldin: int
    heldout: int
    gaps: bool = False

    @property
    def bins(self) -> int:
        """T, observed and forward bins."""
        return self.bins_observed + self.bins_forward

    @property
    def neurons(self) -> int:
        """N, held-in and held-out neurons."""
        return self.heldin + self.heldout


__all__ = [
    "Array",
    "Bool",
    "Dims",
    "Float",
    "Int",
    "NDArray",
    "Params",
    "Shaped",
    "UInt",
]
