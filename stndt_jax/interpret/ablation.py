"""Neuron dropping: what is left of the scores when held-in neurons fall silent.

The input counts of some held-in neurons are set to zero, in steps of a tenth of them, the most
important first, in random order, or the least important first. The model is not trained again;
the decoder of behaviour is fitted again, to the rates of training trials in which the same
neurons are silent. Fitting it costs most of the time, so that it uses an even choice of the
training trials, and only the first random orders are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn needs it

from stndt_jax import files
from stndt_jax.console import tables
from stndt_jax.errors import UserError
from stndt_jax.evaluation import evaluate, scoring
from stndt_jax.evaluation.evaluate import Select, TrainedModel
from stndt_jax.interpret import attention
from stndt_jax.runs import directory
from stndt_jax.types import Float, Int, NDArray

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
IMPORTANT, RANDOM, LEAST = "most important first", "random", "least important first"
SECOND = "most important first, by gradients"
SCORES = ("co-bps", "vel R2", "tp corr", "psth R2")
FILE = "dropping.json"
DECODED_REPEATS = 2
DECODED_TRIALS = 100

Note = Callable[[int, int], None]


def drop(
    models: Sequence[TrainedModel],
    importance: Float[NDArray, " N_in"],
    *,
    targets_path: str = "",
    against: Sequence[TrainedModel] = (),
    names: tuple[str, str] = ("this", "other"),
    second: Float[NDArray, " N_in"] | None = None,
    fractions: Sequence[float] = FRACTIONS,
    repeats: int = 5,
    decode: bool = True,
    seed: int = 0,
    select: Select = "cobps",
    note: Note = lambda done, total: None,
) -> dict[str, Any]:
    """Scores with more and more held-in neurons silenced.

    Args:
        models: whose mean rate is scored.
        importance: of every held-in neuron.
        targets_path: the target file, where the configuration names none.
        against: other models on the same recording; the same neurons are silenced for them.
        names: what to call the two.
        second: another importance, such as that of integrated gradients, for one more order.
        fractions: shares of the held-in neurons, rising.
        repeats: random orders.
        decode: whether to score behaviour, which costs most of the time.
        seed: of the random orders.
        select: which weights of each member.
        note: told how many of how many evaluations are done.

    Returns:
        What stands in ``dropping.json``::

            {"fractions": [0.0, 0.1, ...], "silenced": [0, 3, ...],      # F of them
             "models": {NAME: {ORDER: {SCORE: [[...F values...], ...]}}}}   # a row a repeat

        ORDER is "most important first", "random" (a row a repeat), "least important first" or,
        with ``second``, "most important first, by gradients";
        SCORE is a name of `scoring.score` ("co-bps", "vel R2", "psth R2"). None where a costly
        score was not computed for a repeat. The first value of a row is the full model's.

    Raises:
        UserError: there are no targets, or the two were trained on other recordings.
    """
    targets = evaluate.targets_for(models[0].trained, targets_path)
    if targets is None:
        raise UserError(
            f"the held-out counts of the evaluated trials of {models[0].trained.data.name} are not "
            f"known, so dropping neurons cannot be scored; give --targets, or --nodrop"
        )
    if against:
        _same_recording(models[0], against[0])
    most = np.argsort(-importance, kind="stable")
    rng = np.random.default_rng(seed)
    orders = {
        IMPORTANT: [most],
        RANDOM: [rng.permutation(len(most)) for _ in range(repeats)],
        LEAST: [most[::-1]],
    }
    if second is not None:
        orders[SECOND] = [np.argsort(-second, kind="stable")]
    silenced = [round(fraction * len(most)) for fraction in fractions]
    sides = {names[0]: models} | ({names[1]: against} if against else {})
    total = len(sides) * (1 + sum(map(len, orders.values())) * len(silenced))
    done = 0
    found: dict[str, Any] = {}
    for name, side in sides.items():
        score = _Scorer(side, targets, select)
        full = score(np.zeros(0, int), decode=decode)
        note(done := done + 1, total)
        found[name] = {}
        for order, permutations in orders.items():
            rows = []
            for repeat, permutation in enumerate(permutations):
                row = [full]
                for number in silenced:
                    costly = decode and repeat < DECODED_REPEATS
                    row.append(score(permutation[:number], decode=costly))
                    note(done := done + 1, total)
                rows.append(row)
            found[name][order] = {
                key: [[values.get(key) for values in row] for row in rows] for key in full
            }
    return {
        "fractions": [0.0, *map(float, fractions)],
        "silenced": [0, *silenced],
        "models": found,
    }


class _Scorer:
    """Scores of a mean rate with some neurons silenced; what does not change is prepared once."""

    def __init__(
        self, models: Sequence[TrainedModel], targets: Mapping[str, NDArray], select: Select
    ) -> None:
        self.models, self.select = models, select
        self.data = models[0].trained.data
        self.kind = scoring.kind_of(targets)
        rows = attention.spaced(len(self.data.train), DECODED_TRIALS)
        self.train = attention.pick(self.data.train, rows)
        # True rates and forward bins have scores of their own, which are not asked for here.
        wanted = [key for key in targets if "rates_true" not in key and "forward" not in key]
        self.targets = {key: targets[key] for key in wanted}
        for key in ("train_behavior", "train_decode_mask"):
            if key in self.targets:
                self.targets[key] = self.targets[key][rows]

    def __call__(self, neurons: Int[NDArray, " n"], *, decode: bool) -> dict[str, float]:
        velocity = self.kind == "velocity"
        trials = {"eval": self.data.eval}
        if decode and velocity:
            trials["train"] = self.train
        rates = {
            split: attention.rates(self.models, attention.silence(x, neurons), self.select)
            for split, x in trials.items()
        }
        dims = self.models[0].trained.arch.dims
        # Small fits: on a busy machine the threads of a library would wait for each other.
        with threadpool_limits(limits=1):
            found = scoring.score(
                evaluate.submission(rates, dims), self.targets, kind=self.kind if decode else "none"
            )
        return {key: found[key] for key in SCORES if key in found}


def relative(rows: Sequence[Sequence[float | None]]) -> Float[NDArray, "repeats F"]:
    """A score's change relative to the full model's; NaN where it was not computed."""
    values = np.array(rows, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (values - values[:, :1]) / np.abs(values[:, :1])


def separation(
    found: Mapping[str, Any], name: str, score: str = "co-bps", order: str = IMPORTANT
) -> float:
    """How much more the most important neurons cost than random ones, mean over the fractions.

    Relative to the full model's score; above 0 where the important neurons cost more.
    """
    orders = found["models"][name]
    rows = (relative(orders[which][score])[:, 1:] for which in (RANDOM, order))
    random, important = (float(np.nanmean(row)) for row in rows)
    return random - important


def text(found: Mapping[str, Any]) -> str:
    """Scores at a few fractions as lines of text."""
    fractions = found["fractions"]
    shown = [
        i for i, fraction in enumerate(fractions) if round(10 * fraction) in (0, 1, 3, 5, 7, 9)
    ]
    lines = []
    for name, orders in found["models"].items():
        for score in orders[IMPORTANT]:
            heads = [f"{score} of {name}, silenced", *(f"{fractions[i]:.0%}" for i in shown)]
            rows = []
            for order, scores in orders.items():
                mean = np.nanmean(np.array(scores[score], float), axis=0)
                rows.append([order, *(tables.number(float(mean[i])) for i in shown)])
            lines.append(tables.table(heads, rows))
        for order in (IMPORTANT, SECOND):
            if "co-bps" in orders.get(order, {}):
                share = separation(found, name, order=order)
                lines.append(
                    f"{order}: costs {name} {share:.1%} of co-bps more than random, on average"
                )
    return "\n".join(lines)


def write(found: Mapping[str, Any], folder: Path) -> Path:
    """Writes ``dropping.json``."""
    directory.make(folder)
    files.write_json(folder / FILE, dict(found))
    return folder / FILE


def read(folder: Path) -> dict[str, Any] | None:
    """Reads ``dropping.json``; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    found = files.read_json(path, "start stndt interpret again")
    fine = isinstance(found, dict) and all(key in found for key in ("fractions", "models"))
    if not fine:
        raise UserError(f"{path} holds no scores of dropped neurons; start stndt interpret again")
    return found


def _same_recording(model: TrainedModel, other: TrainedModel) -> None:
    one, two = model.trained.data, other.trained.data
    same = all(
        np.array_equal(a.heldin, b.heldin)
        for a, b in ((one.train, two.train), (one.eval, two.eval))
    )
    if not same or model.trained.arch.dims != other.trained.arch.dims:
        raise UserError(
            f"--against {other.trained.path} was trained on another recording than "
            f"{model.trained.path}; the same neurons cannot be silenced in both"
        )
