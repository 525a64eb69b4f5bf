"""Correlations among neurons: of spikes, of smoothed spikes, of inferred and of true rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.spatial import distance

from stndt_jax.plotting import style
from stndt_jax.plotting.style import DIVERGING, styled
from stndt_jax.types import Float, Int, NDArray


def correlation(x_RTN: Float[NDArray, "R T N"]) -> Float[NDArray, "N N"]:
    """Correlation of every two neurons over the bins of all trials in which no neuron is NaN.

    A neuron that never changes has correlation 0 with the others.
    """
    rows_SN = x_RTN.reshape(-1, x_RTN.shape[-1])
    rows_SN = rows_SN[np.isfinite(rows_SN).all(axis=1)]
    centred_SN = rows_SN - rows_SN.mean(axis=0)
    length_N = np.linalg.norm(centred_SN, axis=0)
    # Of a constant, only rounding errors of its mean are left.
    varies_N = length_N > 1e-9 * np.linalg.norm(rows_SN, axis=0)
    unit_SN = np.where(varies_N, centred_SN / np.where(varies_N, length_N, 1.0), 0.0)
    found_NN = np.clip(unit_SN.T @ unit_SN, -1, 1)
    np.fill_diagonal(found_NN, 1.0)
    return found_NN


@styled
def correlations(
    matrices: Mapping[str, Float[NDArray, "N N"]],
    *,
    order_by: str,
    compare_with: str | None = None,
    narrow: bool = False,
) -> Figure:
    """Correlation matrices side by side, with one order of the neurons and one colour scale.

    Args:
        matrices: by what they are of, such as spikes or inferred rates.
        order_by: which of them orders the neurons, so that similar ones are neighbours.
        compare_with: the true one; the titles of the others give their correlation with it, over
            pairs of neurons.
        narrow: for a phone, two in a row.
    """
    order_N = _by_similarity(matrices[order_by])
    pairs = np.triu_indices(len(order_N), 1)
    reference = matrices.get(compare_with) if compare_with else None
    columns = 2 if narrow else len(matrices)
    rows = -(-len(matrices) // columns)
    size = (style.NARROW, 2.0 * rows + 0.5) if narrow else (2.1 * columns + 0.7, 2.5)
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    image: Any = None
    for ax in axes.flat[len(matrices) :]:
        ax.set_axis_off()
    for ax, (name, matrix) in zip(axes.flat, matrices.items(), strict=False):
        shown = matrix[np.ix_(order_N, order_N)]
        image = ax.imshow(shown, cmap=DIVERGING, vmin=-1, vmax=1, interpolation="nearest")
        title = name
        if reference is not None and name != compare_with and len(order_N) > 2:
            r = np.corrcoef(matrix[pairs], reference[pairs])[0, 1]
            title += f"\nr with {'true' if narrow else 'true rates'} {style.signed(r, 2)}"
        ax.set_title(title)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if not narrow:
            ax.set_xlabel("neuron, by similarity")
    for ax in axes[:, 0]:
        ax.set_ylabel("neuron, by similarity")
    look: dict[str, Any] = {"location": "bottom"} if narrow else {"shrink": 0.8, "pad": 0.02}
    fig.colorbar(image, ax=axes, label="correlation", **look)
    return fig


def _by_similarity(matrix: Float[NDArray, "N N"]) -> Int[NDArray, " N"]:
    """An order of the neurons in which correlated ones are neighbours: leaves of a clustering."""
    if len(matrix) < 3:
        return np.arange(len(matrix))
    distance_NN = np.maximum(1 - (matrix + matrix.T) / 2, 0)
    condensed = distance.squareform(distance_NN, checks=False)
    return np.asarray(hierarchy.leaves_list(hierarchy.linkage(condensed, "average")))
