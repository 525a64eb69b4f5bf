"""Neuron dropping: the scores that remain when held-in neurons are silenced.

The input counts of some held-in neurons are set to zero, for growing fractions of them: the most
important first, in random order, or the least important first. The model is not trained again. The
decoder of behaviour is fitted again, to the rates of training trials in which the same neurons are
silenced. As this fit takes most of the time, it uses evenly spaced training trials, and behaviour
is decoded for the first random orders only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn needs it

from stndt_jax.console import progress, tables
from stndt_jax.data.labels import listed
from stndt_jax.data.trials import SpikeData, evenly_spaced
from stndt_jax.errors import UserError
from stndt_jax.evaluation import evaluate, inference, scoring, submission
from stndt_jax.interpret import attention
from stndt_jax.runs import directory, records
from stndt_jax.runs.score_names import label
from stndt_jax.training.restore import SelectedBy, TrainedModel
from stndt_jax.types import Float, Int, NDArray

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MOST_FIRST, RANDOM, LEAST_FIRST = "most_first", "random", "least_first"
BY_GRADIENTS = "most_first_by_gradients"
ORDERS = {
    MOST_FIRST: "most important first",
    RANDOM: "random",
    LEAST_FIRST: "least important first",
    BY_GRADIENTS: "most important first, by gradients",
}
"""Labels of the orders, by their keys in the file."""
SCORES = ("co_bps", "vel_r2", "tp_corr", "psth_r2")
FILE = "dropping.json"
# Random orders for which behaviour is decoded, and training trials that a decoder is fitted to.
DECODED_REPEATS = 2
DECODED_TRIALS = 100


def drop(
    models: Sequence[TrainedModel],
    importance: Float[NDArray, " N_in"],
    *,
    targets_path: str = "",
    against: Sequence[TrainedModel] = (),
    names: tuple[str, str] = ("this", "other"),
    gradient_importance: Float[NDArray, " N_in"] | None = None,
    fractions: Sequence[float] = FRACTIONS,
    repeats: int = 5,
    decode: bool = True,
    seed: int = 0,
    select: SelectedBy = "cobps",
) -> dict[str, Any]:
    """Scores of a mean rate with growing fractions of the held-in neurons silenced.

    Args:
        models: the models whose mean rate is scored.
        importance: of every held-in neuron, in any unit.
        targets_path: the target file, if the configuration names none.
        against: models of another run on the same recording, scored with the same neurons
            silenced.
        names: what to call the two runs.
        gradient_importance: importance by integrated gradients, which adds an order.
        fractions: fractions of the held-in neurons to silence, rising.
        repeats: number of random orders.
        decode: whether to score behaviour, which takes most of the time.
        seed: of the random orders.
        select: which weights of each member.

    Returns:
        The content of ``dropping.json``::

            {"fractions": [0.0, 0.1, ...], "silenced": [0, 3, ...],      # F of them
             "models": {NAME: {ORDER: {SCORE: [[...F values...], ...]}}},   # one row per repeat
             "notes": ["vel R2 is ...", ...]}        # what to know of the scores, sentences

        ORDER is "most_first", "random" (one row per repeat), "least_first" or, with
        ``gradient_importance``, "most_first_by_gradients";
        SCORE is a key of `scoring.score` ("co_bps", "vel_r2", "psth_r2"). A value is None where a
        costly score was not computed for a repeat. The first value of a row is the full model's.

    Raises:
        UserError: there are no targets, or the two runs were trained on different recordings.
    """
    targets = evaluate.targets_for(models[0].trained, targets_path)
    if targets is None:
        raise UserError(
            f"the held-out counts of the evaluated trials of {models[0].trained.data.name} are not "
            f"known, so dropping neurons cannot be scored; give --targets, or --nodrop"
        )
    if against:
        _check_same_recording(models[0], against[0])
    orders = _orders(importance, gradient_importance, repeats, seed)
    silenced = [round(fraction * len(importance)) for fraction in fractions]
    runs = {names[0]: models} | ({names[1]: against} if against else {})
    total = len(runs) * (1 + sum(map(len, orders.values())) * len(silenced))
    with progress.task("scores with silenced neurons", total) as shown:
        return {
            "fractions": [0.0, *map(float, fractions)],
            "silenced": [0, *silenced],
            "models": {
                name: _score_orders(_Scorer(run, targets, select), orders, silenced, decode, shown)
                for name, run in runs.items()
            },
            "notes": _notes(models[0].trained.data, targets, decode),
        }


def _notes(data: SpikeData, targets: Mapping[str, NDArray], decode: bool) -> list[str]:
    """Why scores here differ from those of an evaluation, in sentences."""
    notes = []
    trials = len(data.train)
    if decode and scoring.kind_of(targets) == "velocity" and trials > DECODED_TRIALS:
        notes.append(
            f"the value of {label('vel_r2')} without silencing differs from that of stndt "
            f"evaluate: to save time, its decoder is fitted to {DECODED_TRIALS} of the {trials} "
            f"training trials"
        )
    return notes + scoring.missing(data, targets)


Orders = Mapping[str, Sequence[Int[NDArray, " N_in"]]]
"""Orders in which neurons are silenced, by name: neuron indices, one array per repeat."""


def _orders(
    importance: NDArray, gradient_importance: NDArray | None, repeats: int, seed: int
) -> Orders:
    rng = np.random.default_rng(seed)
    most_first = np.argsort(-importance, kind="stable")
    orders = {
        MOST_FIRST: [most_first],
        RANDOM: [rng.permutation(len(importance)) for _ in range(repeats)],
        LEAST_FIRST: [most_first[::-1]],
    }
    if gradient_importance is not None:
        orders[BY_GRADIENTS] = [np.argsort(-gradient_importance, kind="stable")]
    return orders


def _score_orders(
    score: _Scorer,
    orders: Orders,
    silenced: Sequence[int],
    decode: bool,
    shown: progress.Task,
) -> dict[str, dict[str, list[list[float | None]]]]:
    """Scores by order and name: one row per repeat, one column per number of silenced neurons."""
    full = score(np.zeros(0, int), decode=decode)
    shown.at(shown.done + 1)
    found: dict[str, dict[str, list[list[float | None]]]] = {}
    for order, permutations in orders.items():
        rows = []
        for repeat, permutation in enumerate(permutations):
            row = [full]
            for number in silenced:
                decoded = decode and repeat < DECODED_REPEATS
                row.append(score(permutation[:number], decode=decoded))
                shown.at(shown.done + 1)
            rows.append(row)
        found[order] = {key: [[scores.get(key) for scores in row] for row in rows] for key in full}
    return found


class _Scorer:
    """Scores of a mean rate with some neurons silenced; holds what is the same for all of them."""

    def __init__(
        self, models: Sequence[TrainedModel], targets: Mapping[str, NDArray], select: SelectedBy
    ) -> None:
        self.models, self.select = models, select
        self.data = models[0].trained.data
        self.kind = scoring.kind_of(targets)
        rows = evenly_spaced(len(self.data.train), DECODED_TRIALS)
        self.train = self.data.train.subset(rows)
        # True rates and forward bins have scores of their own, which are not used here.
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
            split: inference.mean_rates(self.models, attention.silence(x, neurons), self.select)
            for split, x in trials.items()
        }
        dims = self.models[0].trained.arch.dims
        # The fits are small: on a busy machine, the threads of a library would wait for each other.
        with threadpool_limits(limits=1):
            found = scoring.score(
                submission.of_rates(rates, dims), self.targets, kind=self.kind if decode else "none"
            )
        return {key: found[key] for key in SCORES if key in found}


def relative_change(rows: Sequence[Sequence[float | None]]) -> Float[NDArray, "repeats F"]:
    """Change of a score relative to the full model's; NaN where it was not computed."""
    values = np.array(rows, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (values - values[:, :1]) / np.abs(values[:, :1])


class Effect(NamedTuple):
    """A score with neurons silenced, mean over the fractions that are silenced.

    Attributes:
        full: the score without silencing.
        ordered: in the order in question.
        random: in random order, mean over repeats.
        lowest: the lowest of the random orders.
        highest: the highest of the random orders.
    """

    full: float
    ordered: float
    random: float
    lowest: float
    highest: float

    @property
    def matters(self) -> bool:
        """Whether the neurons silenced first matter more than random ones."""
        return self.ordered < self.lowest

    @property
    def is_inverted(self) -> bool:
        """Whether the neurons silenced first matter less than random ones."""
        return self.ordered > self.highest


def effect(
    found: Mapping[str, Any], name: str, score: str = "co_bps", order: str = MOST_FIRST
) -> Effect:
    """What silencing neurons in some order does to a score.

    Args:
        found: result of `drop`.
        name: of the run.
        score: its key.
        order: a key of `ORDERS`.
    """
    orders = found["models"][name]
    ordered_SF, random_SF = (np.array(orders[key][score], float) for key in (order, RANDOM))
    random_S = random_SF[np.isfinite(random_SF).all(axis=1), 1:].mean(axis=1)
    if not random_S.size:
        random_S = np.full(1, np.nan)
    return Effect(
        full=float(ordered_SF[0, 0]),
        ordered=float(ordered_SF[:, 1:].mean()),
        random=float(random_S.mean()),
        lowest=float(random_S.min()),
        highest=float(random_S.max()),
    )


def sentences(found: Mapping[str, Any], name: str) -> list[str]:
    """What silencing neurons does to co-bps, and what that says of importance.

    Args:
        found: result of `drop`.
        name: of the run.

    Returns:
        Sentences without capital letter and final point; none if co-bps was not computed.
    """
    measures = {MOST_FIRST: str(found.get("measure", "attention")), BY_GRADIENTS: "gradients"}
    known = {}
    for order, measure in measures.items():
        if "co_bps" in found["models"][name].get(order, {}):
            one = effect(found, name, order=order)
            if np.isfinite(one).all():
                known[measure] = one
    if not known:
        return []
    first = next(iter(known.values()))
    spread = f" ({first.lowest:.3f} to {first.highest:.3f})" if first.highest > first.lowest else ""
    values = [f"{first.random:.3f} in random order{spread}"]
    values += [f"{x.ordered:.3f} with the most important by {m} first" for m, x in known.items()]
    said = [
        f"with held-in neurons silenced, co-bps of {name}, which is {first.full:.3f} with all of "
        f"them, is on average over the fractions {listed(values)}"
    ]
    if first.full <= 0:
        return [*said, "co-bps is not above 0, so that silencing says nothing of importance"]
    return said + [_judgement(measure, known) for measure in known]


def _judgement(measure: str, known: Mapping[str, Effect]) -> str:
    """Whether the neurons that a measure ranks highest matter, in one sentence."""
    found = known[measure]
    if found.matters:
        return f"by {measure}, the neurons ranked highest matter more than random ones"
    authority = ""
    if measure == "attention" and "gradients" not in known:
        authority = (
            "; go by integrated gradients, which stndt interpret computes without --nogradients"
        )
    elif measure == "attention" and known["gradients"].matters:
        authority = "; go by integrated gradients"
    if found.is_inverted:
        return (
            f"importance by {measure} is inverted here: the neurons that it ranks highest matter "
            f"less than random ones{authority}"
        )
    return (
        f"importance by {measure} is not confirmed here: silencing the neurons that it ranks "
        f"highest costs about as much as silencing random ones{authority}"
    )


def text(found: Mapping[str, Any]) -> str:
    """Scores at a few fractions as tables, and what the orders cost as sentences."""
    fractions = found["fractions"]
    shown = [i for i, fraction in enumerate(fractions) if round(10 * fraction) in (0, 1, 3, 5, 9)]
    parts = []
    for name, orders in found["models"].items():
        for score in orders[MOST_FIRST]:
            heads = [f"{label(score)} of {name}, silenced", *(f"{fractions[i]:.0%}" for i in shown)]
            rows = []
            for order, scores in orders.items():
                mean = np.nanmean(np.array(scores[score], float), axis=0)
                rows.append([ORDERS[order], *(tables.number(float(mean[i])) for i in shown)])
            parts.append(tables.table(heads, rows))
        if said := sentences(found, name):
            parts.append("\n".join(said))
    return "\n\n".join([*parts, *map(str, found.get("notes", []))])


def write(found: Mapping[str, Any], folder: Path) -> Path:
    """Writes ``dropping.json``.

    Raises:
        UserError: it cannot be written.
    """
    directory.make(folder)
    records.write(folder / FILE, found)
    return folder / FILE


def read(folder: Path) -> dict[str, Any] | None:
    """Reads ``dropping.json``; None if there is none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    found = records.read(path, "run stndt interpret again")
    fine = all(key in found for key in ("fractions", "models"))
    if not fine:
        raise UserError(f"{path} holds no scores of dropped neurons; run stndt interpret again")
    return found


def _check_same_recording(model: TrainedModel, other: TrainedModel) -> None:
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
