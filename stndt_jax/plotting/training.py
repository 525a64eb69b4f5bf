"""Training curves: loss and validation score of every member over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stndt_jax.errors import UserError
from stndt_jax.plotting import style
from stndt_jax.plotting.style import BEST, OTHERS, TRUE, styled
from stndt_jax.runs.log import values_by_epoch
from stndt_jax.runs.score_names import axis_label
from stndt_jax.types import NDArray


@styled
def training_curves(
    rows: Sequence[Mapping[str, Any]],
    *,
    losses: Mapping[str, str] = MappingProxyType(
        {"training": "train_masked_loss", "validation": "valid_masked_loss"}
    ),
    score: str = "valid_cobps",
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Loss and validation co-bps by epoch, a line per member; the best one is highlighted.

    Args:
        rows: logged metrics, as `log.read_metrics` returns them: `epoch` and, under every other
            key, one number or one per member, None or NaN where it is unknown. A row may lack
            keys.
        losses: name and key of every loss; the first is drawn solid, the second dashed.
        score: key of co-bps; the best member is the one with its largest value in any row.
        references: co-bps of other methods by name, drawn as horizontal lines.

    Raises:
        UserError: no row holds the epoch and any of the keys.
    """
    curves = {key: values_by_epoch(rows, key) for key in (*losses.values(), score)}
    if not any(len(epochs) for epochs, _ in curves.values()):
        raise UserError(
            f"no row of the metrics holds epoch and any of {', '.join(curves)}: train until the "
            "first validation or longer, then draw"
        )
    scores_EK = np.where(np.isfinite(curves[score][1]), curves[score][1], -np.inf)
    best = int(np.argmax(scores_EK.max(axis=0))) if np.isfinite(scores_EK).any() else None
    fig, axes = style.panels(1, 2, width=3.1, height=2.2, share="none")
    for (name, key), look in zip(losses.items(), ("-", "--", ":"), strict=False):
        _members(axes[0, 0], *curves[key], best=best, label=name, linestyle=look)
    axes[0, 0].set_ylabel("masked loss (nats per masked count)")
    if axes[0, 0].lines:
        axes[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=2)
    ax = axes[0, 1]
    _members(ax, *curves[score], best=best, label="validation", linestyle="-")
    ax.set_ylabel(axis_label("validation_co_bps"))
    for name, value in (references or {}).items():
        ax.axhline(value, color=TRUE, linewidth=0.8, linestyle=(0, (1, 2)))
        position = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "bottom"}
        ax.text(1, value, name, fontsize=7, **position)
    if best is not None:
        epochs, at = curves[score][0], int(np.argmax(scores_EK[:, best]))
        ax.plot(epochs[at], scores_EK[at, best], "o", color=BEST, markersize=4)
        which = f", member {best}" if scores_EK.shape[1] > 1 else ""
        ax.set_title(f"best: {scores_EK[at, best]:.4f} at epoch {epochs[at]:g}{which}")
    for ax in axes.flat:
        ax.set_xlabel("epoch")
    return fig


def _members(
    ax: Axes, epochs: NDArray, values_EK: NDArray, *, best: int | None, label: str, linestyle: str
) -> None:
    """A line per member; only one of them is named in the legend."""
    members = values_EK.shape[1] if len(epochs) else 0
    for k in range(members):
        highlighted = k == best or members == 1
        ax.plot(
            epochs,
            values_EK[:, k],
            linestyle=linestyle,
            color=BEST if highlighted else OTHERS,
            linewidth=1.3 if highlighted else 0.7,
            zorder=3 if highlighted else 2,
            label=label if k == (best if best is not None else 0) else None,
        )
