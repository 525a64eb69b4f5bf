"""What is drawn in a figure: the data of its lines, its texts and whether they overlap."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def line(ax: Axes, label: str) -> np.ndarray:
    (found,) = [x for x in ax.lines if x.get_label() == label]
    return np.asarray(found.get_xydata())


def texts_of(ax: Axes) -> list[Text]:
    found = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, sorted(ax.get_ylim()))):
        # Ticks outside the limits exist, but are not drawn.
        found += [x.label1 for x in axis.get_major_ticks() if low <= x.get_loc() <= high]
    return found


def texts_apart(fig: Figure) -> None:
    """No two texts overlap and none leaves the page, as drawn."""
    FigureCanvasAgg(fig).draw()
    texts = [text for ax in fig.axes for text in texts_of(ax)]
    for part in (fig, *fig.subfigs):
        texts += [*part.texts, *(text for legend in part.legends for text in legend.get_texts())]
    boxes = [
        (x.get_text(), x.get_window_extent()) for x in texts if x.get_text() and x.get_visible()
    ]
    for number, (text, box) in enumerate(boxes):
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1
        assert inside, f"{text!r} leaves the page"
        for other, second in boxes[number + 1 :]:
            shared = Bbox.intersection(box, second)
            apart = shared is None or min(shared.width, shared.height) < 1
            assert apart, f"{text!r} lies on {other!r}"
