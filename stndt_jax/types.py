"""Glossary: dimension letters and the words for bins and counts. Array aliases.

Names inside functions end in the letters of their axes (``x_BTN``). Public signatures carry the
same letters as jaxtyping shapes, which are checked when the tests run.

======  ==================================================================================
letter  axis
======  ==================================================================================
K       members of a population of models trained together, or of an ensemble
R       trials of a data set (``r``: some of them)
B       trials of a batch
T       time bins of a trial, observed then forward (``T = T_obs + T_fwd``)
N       neurons, held-in then held-out (``N = N_in + N_out``; ``n``: some of them)
C       conditions
D       dimensions of behaviour (2 for a hand velocity) or of a latent state; of a model, the width
        of the temporal stream: its factors, or the neurons (D = N) where it has none
S       samples in time without trials: a continuous recording, or trials laid end to end
H       attention heads
L       layers
F       feed-forward width
V       views of a batch: differently corrupted copies of it
======  ==================================================================================

Other letters are explained where they are used: E edges of bins or features, U units of a
simulated network, P principal components, M models to choose from. A digit is a size.

==============  ==========================================================================
word            meaning
==============  ==========================================================================
observed bins   the first ``T_obs`` bins of a trial, whose held-in counts a model sees
forward bins    the last ``T_fwd`` bins of a trial, which a model predicts without seeing them
held-in         neurons whose counts a model sees
held-out        neurons whose rates a model infers from the others (co-smoothing)
evaluated       trials that are scored and not trained on (the ``eval`` split)
recorded        (trial, bin, neuron) where the recording has a count: False in the padding of a
                short trial, in a gap, where a neuron was not monitored
has_count       (trial, bin, neuron) where this program has the count: recorded, and not withheld
                as targets are; only such entries enter a loss or a score
attendable      (trial, bin) that attention may use: forward bins, and observed bins in which at
                least one held-in neuron was recorded
gaps            whether any observed bin of a held-in neuron was not recorded
targets         counts, behaviour and PSTHs that the evaluated trials are scored against
PSTH            mean counts per bin over the trials of a condition
==============  ==========================================================================

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

    Attributes:
      bins_observed: T_obs.
      bins_forward: T_fwd.
      heldin: N_in.
      heldout: N_out.
      gaps: whether some trial has observed bins that were not recorded, such as the padding of a
        short trial; models then ignore these bins.
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
