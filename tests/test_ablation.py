"""Neuron dropping, with rates from a formula that reveals which neurons are silenced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import small_models

from stndt_jax.console import progress
from stndt_jax.data.trials import Trials
from stndt_jax.errors import UserError
from stndt_jax.evaluation import evaluate, inference
from stndt_jax.interpret import ablation, attention

IMPORTANCE = np.array([0.1, 0.4, 0.2, 0.3])
HALVES = (0.25, 0.5)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, set[int]]]:
    """Trials and silenced neurons of every question; the rates are a mean over neurons."""
    questions: list[tuple[int, set[int]]] = []

    def rates(models: Any, trials: Trials, select: str) -> np.ndarray:
        silent = {n for n in range(4) if not trials.heldin[:, :, n].any()}
        questions.append((len(trials), silent))
        active = trials.heldin.astype(float) * (np.arange(4) == 1)
        rate = 0.2 + active.mean(axis=(1, 2))[:, None, None]
        return np.broadcast_to(rate, (len(trials), 8, 6)).astype(np.float32)

    monkeypatch.setattr(inference, "mean_rates", rates)
    return questions


def drop(**options: Any) -> dict[str, Any]:
    models = small_models.models(small_models.recording())
    return ablation.drop(models, IMPORTANCE, fractions=HALVES, repeats=3, **options)


def test_orders_silence_the_neurons_they_name(
    asked: list[tuple[int, set[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[tuple[float, float | None]] = []

    def at(task: progress.Task, done: float) -> None:
        task.done = done
        reports.append((done, task.total))

    monkeypatch.setattr(progress.Task, "at", at)
    found = drop()
    of_eval = [silent for trials, silent in asked if trials == 7]
    assert of_eval[:3] == [set(), {1}, {1, 3}]  # the most important first
    assert of_eval[-2:] == [{0}, {0, 2}]
    for repeat in range(3):
        few, more = of_eval[3 + 2 * repeat : 5 + 2 * repeat]
        assert len(few) == 1 and len(more) == 2 and few < more
    assert reports == [(i, 11) for i in range(1, 12)]
    assert found["fractions"] == [0.0, 0.25, 0.5] and found["silenced"] == [0, 1, 2]
    # Behaviour is decoded for all orders but the third random one, from the same silence.
    assert len([1 for trials, _ in asked if trials == 11]) == 9
    orders = found["models"]["this"]
    assert list(orders) == [ablation.MOST_FIRST, ablation.RANDOM, ablation.LEAST_FIRST]
    assert [len(orders[order]["co_bps"]) for order in orders] == [1, 3, 1]
    assert None not in orders[ablation.RANDOM]["vel_r2"][1]
    assert orders[ablation.RANDOM]["vel_r2"][2][1:] == [None, None]
    fulls = {row[0] for scores in orders.values() for row in scores["co_bps"]}
    assert len(fulls) == 1


def test_behaviour_can_be_left_out(asked: list[tuple[int, set[int]]]) -> None:
    found = drop(decode=False)
    assert all(trials == 7 for trials, _ in asked)
    scores = found["models"]["this"][ablation.MOST_FIRST]
    assert "vel_r2" not in scores and "co_bps" in scores


def test_a_second_importance_has_an_order_of_its_own(asked: list[tuple[int, set[int]]]) -> None:
    found = drop(gradient_importance=np.array([1.0, 2.0, 4.0, 3.0]))
    assert [silent for trials, silent in asked if trials == 7][-2:] == [{2}, {2, 3}]
    assert list(found["models"]["this"])[-1] == ablation.BY_GRADIENTS


def test_scores_are_those_of_the_silenced_rates(asked: list[tuple[int, set[int]]]) -> None:
    from nlb_tools.evaluation import bits_per_spike

    found = drop()
    data = small_models.recording()
    rates = inference.mean_rates([], attention.silence(data.eval, [1]), "cobps")[:, :6, 4:]
    assert data.eval.heldout is not None
    expected = bits_per_spike(rates.astype(float), data.eval.heldout.astype(float))
    orders = found["models"]["this"]
    assert orders[ablation.MOST_FIRST]["co_bps"][0][1] == pytest.approx(expected)


@pytest.mark.long
def test_the_same_neurons_are_silenced_in_another_run(asked: list[tuple[int, set[int]]]) -> None:
    other = small_models.models(small_models.recording())
    found = drop(against=other, names=("stndt", "ndt"))
    assert list(found["models"]) == ["stndt", "ndt"]
    of_eval = [silent for trials, silent in asked if trials == 7]
    assert of_eval[:11] == of_eval[11:]
    with pytest.raises(UserError, match="another recording"):
        drop(against=small_models.models(small_models.recording(seed=1)))


def test_missing_targets_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "targets_for", lambda trained, path: None)
    with pytest.raises(UserError, match="--nodrop"):
        drop()


def test_relative_change_and_effect() -> None:
    important, random = [[0.4, 0.2, 0.1]], [[0.4, 0.4, 0.2], [0.4, 0.3, 0.1]]
    np.testing.assert_allclose(ablation.relative_change(important), [[0, -0.5, -0.75]])
    assert np.isnan(ablation.relative_change([[0.4, None]])[0, 1])
    scores = {
        ablation.MOST_FIRST: important,
        ablation.RANDOM: random,
        ablation.LEAST_FIRST: important,
    }
    orders = {order: {"co_bps": rows} for order, rows in scores.items()}
    found = {"fractions": [0, 0.1, 0.5], "models": {"a": orders}}
    effect = ablation.effect(found, "a")
    assert effect == pytest.approx((0.4, 0.15, 0.25, 0.2, 0.3))
    assert effect.matters and not effect.is_inverted
    lines = ablation.text(found).splitlines()
    assert lines[2].split() == ["random", "0.4000", "0.3500", "0.1500"]
    assert lines[-2:] == [
        "with held-in neurons silenced, co-bps of a, which is 0.400 with all of them, is on "
        "average over the fractions 0.250 in random order (0.200 to 0.300) and 0.150 with the most "
        "important by attention first",
        "by attention, the neurons ranked highest matter more than random ones",
    ]


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (
            [0.4, 0.39, 0.38],
            "importance by attention is inverted here: the neurons that it ranks highest matter "
            "less than random ones; go by integrated gradients, which stndt interpret computes "
            "without --nogradients",
        ),
        (
            [0.4, 0.3, 0.2],
            "importance by attention is not confirmed here: silencing the neurons that it ranks "
            "highest costs about as much as silencing random ones; go by integrated gradients, "
            "which stndt interpret computes without --nogradients",
        ),
    ],
)
def test_importance_that_is_inverted_or_not_confirmed_is_said(first: list, said: str) -> None:
    random = [[0.4, 0.4, 0.2], [0.4, 0.3, 0.1]]
    orders = {ablation.MOST_FIRST: {"co_bps": [first]}, ablation.RANDOM: {"co_bps": random}}
    found = {"fractions": [0, 0.1, 0.5], "models": {"a": orders}}
    assert ablation.sentences(found, "a")[1] == said
    # With gradients, which are confirmed, it is not said how to compute them.
    orders[ablation.BY_GRADIENTS] = {"co_bps": [[0.4, 0.1, 0.0]]}
    sentences = ablation.sentences(found, "a")
    assert sentences[1] == said.removesuffix(
        ", which stndt interpret computes without --nogradients"
    )
    assert sentences[2] == "by gradients, the neurons ranked highest matter more than random ones"
    # Where gradients are not confirmed either, nobody is sent to them.
    orders[ablation.BY_GRADIENTS] = {"co_bps": [[0.4, 0.3, 0.2]]}
    assert "integrated gradients" not in ablation.sentences(found, "a")[1]
    # A model without any score to lose.
    orders[ablation.MOST_FIRST] = {"co_bps": [[-0.1, *first[1:]]]}
    assert ablation.sentences(found, "a")[1:] == [
        "co-bps is not above 0, so that silencing says nothing of importance"
    ]


@pytest.mark.long
def test_why_scores_differ_from_those_of_an_evaluation_is_said(
    asked: list[tuple[int, set[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The 11 training trials are fewer than a decoder is fitted to, and there are PSTHs.
    assert drop()["notes"] == []
    monkeypatch.setattr(ablation, "DECODED_TRIALS", 7)
    (note,) = drop()["notes"]
    assert note == (
        "the value of vel R2 without silencing differs from that of stndt evaluate: to save time, "
        "its decoder is fitted to 7 of the 11 training trials"
    )
    assert drop(decode=False)["notes"] == []
    assert ablation.text(drop()).endswith(note)


def test_reading_returns_what_was_written(
    tmp_path: Path, asked: list[tuple[int, set[int]]]
) -> None:
    found = drop()
    ablation.write(found, tmp_path / "new")
    assert ablation.read(tmp_path / "new") == found
    assert ablation.read(tmp_path) is None
    (tmp_path / "dropping.json").write_text("[1]")
    with pytest.raises(UserError, match=r"dropping\.json is damaged"):
        ablation.read(tmp_path)
