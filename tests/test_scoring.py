"""Scores against nlb_tools' own evaluation and arithmetic by hand; the submission's file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.submissions import BINS, BLOCKS, NEURONS, TRIALS, random_submission
from nlb_tools.evaluation import evaluate
from sklearn.metrics import r2_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stndt_jax.data import hdf5
from stndt_jax.errors import UserError
from stndt_jax.evaluation import scoring, submission

CONDITIONS = 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine take many times as long."""
    with threadpool_limits(limits=1):
        yield


def ragged(rows: list[np.ndarray]) -> np.ndarray:
    out = np.empty(len(rows), dtype=object)
    out[:] = rows
    return out


def maze_targets(seed: int = 1) -> dict[str, np.ndarray]:
    """Like MC_Maze: velocity in every bin, PSTHs by condition, forward bins."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {
        f"eval_spikes_{block}": rng.poisson(
            0.4, (TRIALS["eval"], BINS[bins], NEURONS[neurons])
        ).astype(np.float32)
        for block, (bins, neurons) in BLOCKS.items()
        if block != "heldin"
    }
    for split, trials in TRIALS.items():
        found[f"{split}_behavior"] = rng.normal(size=(trials, BINS["observed"], 2))
    # Related to the rates, so that the penalty matters and the score is not far below 0.
    rates = random_submission()
    for split in TRIALS:
        found[f"{split}_behavior"] += 4 * rates[f"{split}_rates_heldin"][..., :2]
    found["psth"] = rng.gamma(2.0, 0.2, (CONDITIONS, BINS["observed"], sum(NEURONS.values())))
    condition = np.arange(TRIALS["eval"]) % CONDITIONS
    found["eval_cond_idx"] = ragged([np.flatnonzero(condition == c) for c in range(CONDITIONS)])
    return found


def dmfc_targets() -> dict[str, np.ndarray]:
    """Like DMFC_RSG: NaN outside the set-go period, one row of behaviour a trial, jitter."""
    rng = np.random.default_rng(2)
    found = maze_targets()
    length = rng.integers(8, BINS["observed"] - 4, TRIALS["eval"])
    outside = np.arange(BINS["observed"]) >= length[:, None]
    found["eval_spikes_heldout"][outside] = np.nan
    found["eval_spikes_heldin_forward"][:3, 2:] = np.nan
    found["eval_spikes_heldout_forward"][:3, 2:] = np.nan
    # The first bins and the last hold no PSTH, which leaves room for the jitter.
    found["psth"][:, :3] = np.nan
    found["psth"][1, -5:] = np.nan
    found["psth"][:, -3:] = np.nan
    found["eval_jitter"] = rng.integers(-3, 4, TRIALS["eval"])
    for split, trials in TRIALS.items():
        columns = [rng.integers(0, 2, trials) for _ in range(2)]
        produced = rng.uniform(500, 1000, trials)
        found[f"{split}_behavior"] = np.stack(
            [*columns, np.zeros(trials), produced * 1.1, produced], axis=1
        )
    return found


# Our keys by nlb_tools' names.
OURS = {
    "co-bps": "co_bps",
    "vel R2": "vel_r2",
    "tp corr": "tp_corr",
    "psth R2": "psth_r2",
    "fp-bps": "fp_bps",
}


def as_nlb_gives(name: str, rates: dict, targets: dict) -> dict[str, float]:
    copies = {key: array.copy() for key, array in rates.items()}
    (split,) = evaluate({name: targets}, {name: copies})
    (result,) = split.values()
    return {OURS[key.removeprefix("[500] ")]: value for key, value in result.items()}


@pytest.mark.parametrize("masks", [False, True])
def test_velocity_targets_score_as_in_nlb_tools(masks: bool):
    rates, targets = random_submission(), maze_targets()
    targets["train_behavior"][3, 5:9] = np.nan
    targets["eval_behavior"][1, :4] = np.nan
    if masks:  # as Area2_Bump: active and passive reaches have a decoder each
        for split, trials in TRIALS.items():
            active = np.arange(trials) % 2 == 0
            targets[f"{split}_decode_mask"] = np.stack([active, ~active], axis=1)
    found = scoring.score(rates, targets, kind="velocity")
    assert set(found) == {"co_bps", "vel_r2", "psth_r2", "fp_bps"}
    assert found == as_nlb_gives("mc_maze", rates, targets)


def test_interval_targets_score_as_in_nlb_tools():
    rates, targets = random_submission(), dmfc_targets()
    found = scoring.score(rates, targets, kind="interval")
    assert set(found) == {"co_bps", "tp_corr", "psth_r2", "fp_bps"}
    assert found == as_nlb_gives("dmfc_rsg", rates, targets)
    still = scoring.score(rates, targets | {"eval_jitter": np.zeros(24, int)}, kind="interval")
    assert still["psth_r2"] != found["psth_r2"]


@pytest.mark.slow
def test_recorded_targets_score_as_in_nlb_tools(real_data: Path, tmp_path: Path):
    source = real_data / "mc_maze_large_subset_val.h5"
    target = real_data / "mc_maze_large_subset_val_target.h5"
    data = hdf5.read(source, target)
    rng = np.random.default_rng(3)
    rates = {}
    for split, trials in (("train", data.train), ("eval", data.eval)):
        for block in BLOCKS:
            counts = getattr(trials, block)
            rates[f"{split}_rates_{block}"] = rng.gamma(4.0, (counts + 0.05) / 8)
    submission.check(rates, data)
    submission.write(tmp_path / "rates.h5", "mc_maze_large", rates, bin_ms=5.0)
    (split,) = evaluate(str(target), str(tmp_path / "rates.h5"))
    found = scoring.score(
        submission.read(tmp_path / "rates.h5"), hdf5.read_targets(target), kind="velocity"
    )
    theirs = {"co_bps": "co-bps", "fp_bps": "fp-bps", "vel_r2": "vel R2", "psth_r2": "psth R2"}
    assert {f"[500] {theirs[key]}": value for key, value in found.items()} == split[
        "mc_maze_scaling_split"
    ]


def test_kind_is_told_by_the_behaviour():
    assert scoring.kind_of(maze_targets()) == "velocity"
    assert scoring.kind_of(dmfc_targets()) == "interval"
    assert scoring.kind_of({}) == "none"
    assert "vel_r2" not in scoring.score(random_submission(), maze_targets(), kind="none")


def test_bits_per_spike_by_hand():
    """Counts 0 and 1: the null rate is 1/2; rates 1/4 and 3/4 gain log2(3/2) bits."""
    rates = {
        "eval_rates_heldin": np.ones((1, 2, 1)),
        "eval_rates_heldout": np.array([[[0.25], [0.75]]]),
    }
    targets = {"eval_spikes_heldout": np.array([[[0], [1]]], np.uint8)}
    found = scoring.score(rates, targets, kind="none")
    assert found == pytest.approx({"co_bps": np.log2(1.5)}, abs=1e-12)


def test_scores_are_absent_where_nothing_defines_them():
    targets = maze_targets()
    for key in ("eval_spikes_heldout", "eval_spikes_heldin_forward", "eval_spikes_heldout_forward"):
        targets[key][:] = 0
    targets["eval_cond_idx"] = ragged([np.zeros(0, int)] * CONDITIONS)
    del targets["eval_behavior"]
    assert scoring.score(random_submission(), targets, kind="velocity") == {}


def test_zero_rates_are_scored_and_left_as_they_were():
    rates, targets = random_submission(), maze_targets()
    rates["eval_rates_heldout"][0, :3] = 0
    rates["eval_rates_heldin_forward"][1] = 0
    before = {key: array.copy() for key, array in rates.items()}
    found = scoring.score(rates, targets, kind="velocity")
    for key, array in before.items():
        np.testing.assert_array_equal(rates[key], array)
    assert found == as_nlb_gives("mc_maze", rates, targets)


def test_true_rates_give_an_oracle_and_a_rate_r2():
    rates, targets = random_submission(), maze_targets()
    rng = np.random.default_rng(5)
    shape = (TRIALS["eval"], sum(BINS.values()), sum(NEURONS.values()))
    true = rng.gamma(2.0, 0.2, shape).astype(np.float32)
    true[..., 2] = 0.1  # a rate that does not vary has no R2
    bins, heldin = BINS["observed"], NEURONS["in"]
    targets["eval_rates_true"] = true
    targets["eval_spikes_heldout"] = rng.poisson(true[:, :bins, heldin:]).astype(float)
    noisy = (true * rng.gamma(20.0, 1 / 20, shape)).astype(float)
    rates["eval_rates_heldin"], rates["eval_rates_heldout"] = (
        noisy[:, :bins, :heldin],
        noisy[:, :bins, heldin:],
    )
    found = scoring.score(rates, targets, kind="none")

    each = [
        r2_score(true[:, :bins, n].ravel(), noisy[:, :bins, n].ravel())
        for n in range(shape[2])
        if n != 2
    ]
    assert found["rate_r2"] == pytest.approx(np.mean(each), abs=1e-9)
    as_oracle = rates | {"eval_rates_heldout": true[:, :bins, heldin:].astype(float)}
    oracle = as_nlb_gives("mc_maze", as_oracle, targets)["co_bps"]
    assert oracle > found["co_bps"] > 0
    assert found["oracle_co_bps"] == oracle
    assert found["co_bps_of_oracle"] == found["co_bps"] / oracle


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eval_rates_heldout": None}, "no eval_rates_heldout"),
        ({"train_rates_heldin": None}, "no train_rates_heldin"),
        ({"eval_rates_heldout": np.ones((24, 20, 5))}, r"\(24, 20, 5\).*\(24, 20, 4\)"),
        ({"eval_rates_heldin": np.full((24, 20, 7), -1.0)}, r"-1.0 at \(0, 0, 0\)"),
        ({"eval_rates_heldin": np.full((24, 20, 7), np.nan)}, r"nan at \(0, 0, 0\)"),
    ],
)
def test_rates_that_do_not_fit_are_refused(change: dict, message: str):
    rates = {key: x for key, x in (random_submission() | change).items() if x is not None}
    with pytest.raises(UserError, match=message):
        scoring.score(rates, maze_targets(), kind="velocity")


def test_targets_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match='"interval" needs behaviour with one row'):
        scoring.score(random_submission(), maze_targets(), kind="interval")
    with pytest.raises(UserError, match='"velocity" needs behaviour of shape'):
        scoring.score(random_submission(), dmfc_targets(), kind="velocity")
    with pytest.raises(UserError, match="no eval_spikes_heldout"):
        scoring.score(random_submission(), {}, kind="none")
    with pytest.raises(UserError, match="psth of the targets"):
        targets = maze_targets()
        scoring.score(random_submission(), targets | {"psth": targets["psth"][:2]}, kind="none")
    with pytest.raises(UserError, match="two evaluated trials"):
        targets = dmfc_targets()
        targets["eval_behavior"][0, :2] = 9  # a condition with this trial alone
        scoring.score(random_submission(), targets, kind="interval")


def test_without_nlb_tools_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "nlb_tools", None)
    with pytest.raises(UserError, match=r"pip install --no-deps nlb_tools==0\.0\.4"):
        scoring.score(random_submission(), maze_targets(), kind="velocity")


def test_decoded_velocity_has_the_benchmarks_score():
    rates, targets = random_submission(), maze_targets()
    targets["train_behavior"][4, 2:] = np.nan
    train, evaluated = (
        np.concatenate([rates[f"{split}_rates_heldin"], rates[f"{split}_rates_heldout"]], -1)
        for split in ("train", "eval")
    )
    decoded = scoring.decode(train, targets["train_behavior"], evaluated)
    expected = scoring.score(rates, targets, kind="velocity")["vel_r2"]
    assert expected > 0.3
    found = r2_score(targets["eval_behavior"].reshape(-1, 2), decoded.reshape(-1, 2))
    assert found == pytest.approx(expected, abs=1e-12)


def of_rank_two(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Float32 rates of 40 neurons, and two values per bin that determine them."""
    rng = np.random.default_rng(0)
    state = rng.normal(size=(30, 8, 2))
    return (scale * np.exp(state @ rng.normal(size=(2, 40)) / 4)).astype(np.float32), state


def test_rates_of_few_factors_are_decoded_without_a_warning():
    rates, state = of_rank_two(2.0)  # a warning would be an error
    decoded = scoring.decode(rates, state.astype(np.float32), rates)
    assert r2_score(state.reshape(-1, 2), decoded.reshape(-1, 2)) > 0.9


def test_badly_determined_decoders_are_one_warning():
    rates, state = of_rank_two(1e8)
    with pytest.warns(UserWarning) as caught:
        scoring.decode(rates, state, rates)
    [message] = [str(one.message) for one in caught]
    assert message.startswith("the decoder of behaviour is badly determined (ill-conditioned")


def test_a_decoder_recovers_a_linear_map():
    rng = np.random.default_rng(8)
    train, evaluated = rng.normal(size=(40, 30, 3)), rng.normal(size=(2, 5, 3))
    matrix = np.array([[1.0, -2.0], [0.5, 3.0], [0.0, 1.0]])
    behavior = train @ matrix + np.array([10.0, -5.0])
    behavior[0, :, 1] = np.nan
    decoded = scoring.decode(train, behavior, evaluated)
    np.testing.assert_allclose(decoded, evaluated @ matrix + np.array([10.0, -5.0]), atol=1e-4)
    with pytest.raises(UserError, match="has behaviour"):
        scoring.decode(train, np.full_like(behavior, np.nan), evaluated)
