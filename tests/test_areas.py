"""Importance and attention by area, against sums by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import small_models

from stndt_jax.interpret import areas, files, summary
from stndt_jax.plotting import interpretation_figures

AREAS = ["V2", "V1", "V1", "V2", "V1", "M"]  # of four held-in and two held-out neurons


def test_importance_of_an_area_is_that_of_its_heldin_neurons() -> None:
    rate = np.array([1.0, 2, 3, 4, 5, 6])
    attention = np.array([0.1, 0.2, 0.4, 0.1, 0.1, 0.1])
    found = areas.rows(AREAS, 4, rate, {"attention": attention, "gradients": None})
    assert [row["area"] for row in found] == ["M", "V1", "V2"]
    m, v1, v2 = found
    assert (m["heldin"], m["heldout"], m["attention"]) == (0, 1, None)
    assert (v1["heldin"], v1["heldout"], v1["rate_hz"]) == (2, 1, pytest.approx(10 / 3))
    # The mean of all four is 0.2.
    assert v1["attention"] == pytest.approx(1.5) and v2["attention"] == pytest.approx(0.5)
    assert v1["gradients"] is None


def test_attention_between_areas_is_relative_to_their_sizes() -> None:
    rng = np.random.default_rng(0)
    spatial = rng.random((6, 6))
    spatial /= spatial.sum(axis=1, keepdims=True)
    found = areas.between(AREAS, spatial)
    names = areas.names(AREAS)
    for a, one in enumerate(names):
        for b, other in enumerate(names):
            of = [n for n in range(6) if AREAS[n] == one]
            to = [n for n in range(6) if AREAS[n] == other]
            received = sum(spatial[n, m] for n in of for m in to) / len(of)
            assert found[a, b] == pytest.approx(received / (len(to) / 6))
    np.testing.assert_allclose(areas.between(AREAS, np.full((6, 6), 1 / 6)), 1)


def test_the_sentence_names_the_area_that_receives_more_than_its_share() -> None:
    relative = np.array([[1.0, 0.5, 1.5], [1.2, 1.0, 0.8], [2.0, 1.1, 1.0]])
    said = areas.sentences(AREAS, relative)
    assert said == [
        "V2 receives 50% of the attention of M (uniform: 33%)",
        "M receives 20% of the attention of V1 (uniform: 17%)",
        "M receives 33% of the attention of V2 (uniform: 17%)",
    ]
    assert areas.sentences(["V1", "V1"], np.ones((1, 1))) == []


def test_models_of_neurons_have_attention_between_areas(tmp_path: Path) -> None:
    data = small_models.recording()
    data = type(data)(**{**vars(data), "unit_columns": {"area": np.array(AREAS)}})
    found = summary.of_models(small_models.models(data, members=2), with_gradients=False)
    assert found.between_areas is not None and found.spatial is not None
    np.testing.assert_allclose(found.between_areas, areas.between(AREAS, found.spatial))
    text = files.text(found)
    assert "attention / uniform, of" in text and " of the attention of V1 (uniform: " in text
    files.write(found, tmp_path)
    again = files.read(tmp_path)
    assert again.areas is not None and again.areas.tolist() == AREAS
    rows = (tmp_path / "neurons.csv").read_text().splitlines()
    assert [row.rpartition(",")[2] for row in rows] == ["area", *AREAS]
    drawn = {one.name: one for one in interpretation_figures.of_interpretation(again)}
    assert "areas" in drawn and "ordered by area" in drawn["attention"].caption


def test_models_of_factors_say_why_they_have_none() -> None:
    data = small_models.recording()
    data = type(data)(**{**vars(data), "unit_columns": {"area": np.array(AREAS)}})
    models = small_models.models(data, changes=small_models.FACTORS)
    found = summary.of_models(models, with_gradients=False)
    assert found.between_areas is None
    text = files.text(found)
    assert areas.NO_PAIRS in text and "by attention" in text
    drawn = {one.name: one for one in interpretation_figures.of_interpretation(found)}
    assert "attention between areas is not given" in drawn["areas"].caption
    assert "ordered by area" not in drawn["attention"].caption
