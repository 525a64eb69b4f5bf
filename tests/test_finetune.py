"""Training that begins elsewhere: what is kept, what is drawn anew, what stays still."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import small_models
from helpers.imported_runs import SIZES, imported, one, record

from stndt_jax.cli import main
from stndt_jax.config import loading
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.training import finetune, restore


def tree(bins: int, neurons: int, value: float) -> dict:
    """Parameters of the shapes that matter, filled with one number."""

    def full(*shape: int) -> np.ndarray:
        return np.full(shape, value, np.float32)

    return {
        "embedder": {"kernel": full(neurons, neurons), "bias": full(neurons)},
        "decoder": {"kernel": full(neurons, neurons), "bias": full(neurons)},
        "spatial_embedder": {"kernel": full(bins, bins)},
        "spatial_position": full(neurons, bins),
        "position": full(bins, neurons),
        "layers_0": {
            "temporal": {"qkv": {"kernel": full(neurons, 3 * neurons)}},
            "spatial": {"qk": {"kernel": full(bins, 2 * bins)}},
            "feedforward": {"in": {"kernel": full(neurons, 9), "bias": full(9)}},
        },
    }


SPATIAL = {"spatial_embedder.kernel", "layers_0.spatial.qk.kernel"}
TEMPORAL = {"position", "layers_0.temporal.qkv.kernel", "layers_0.feedforward.in.kernel"}
ANY = {"layers_0.feedforward.in.bias"}
OWN = {"embedder.kernel", "embedder.bias", "decoder.kernel", "decoder.bias", "spatial_position"}


@pytest.mark.parametrize(
    ("bins", "neurons", "same", "kept"),
    [
        (6, 4, True, OWN | SPATIAL | TEMPORAL | ANY),
        (6, 4, False, SPATIAL | TEMPORAL | ANY),
        (6, 5, False, SPATIAL | ANY),
        (7, 4, False, (TEMPORAL - {"position"}) | ANY),
        (7, 4, True, (OWN - {"spatial_position"}) | (TEMPORAL - {"position"}) | ANY),
    ],
)
def test_what_is_kept(bins: int, neurons: int, same: bool, kept: set[str]) -> None:
    anew = () if same else finetune.of_neurons(loading.load(["--config=tiny"]).model)
    params, names = finetune.transplant(tree(6, 4, 1.0), tree(bins, neurons, 0.0), anew)
    assert set(names) == kept
    for name, leaf in finetune.names(params).items():
        assert np.all(np.asarray(leaf) == (name in kept)), name


def test_of_other_neurons_factors_keep_all_but_read_in_and_read_out() -> None:
    """Of a recording of other neurons, more of them; the table of positions is of the factors."""
    changes = {**small_models.FACTORS, "model": {**small_models.FACTORS["model"], **LEARNED}}
    (first,) = small_models.models(small_models.recording(), changes=changes)
    counts = np.random.default_rng(2).poisson(2.0, (9, 8, 9))
    data = SpikeData.from_arrays(counts, heldout=[8], bins_forward=2, bin_ms=10.0)
    (second,) = small_models.models(data, changes=changes)
    theirs, fresh = first.params("last"), second.params("last")
    anew = finetune.of_neurons(first.trained.config.model)
    params, kept = finetune.transplant(theirs, fresh, anew)
    of_neurons = {"embedder", "decoder", "mask_token", "smooth_share"}
    of_neurons |= {"input_mean", "input_deviation"}
    assert {name.split(".")[0] for name in set(finetune.names(fresh)) - set(kept)} == of_neurons
    assert "spatial_position" in kept
    roots = np.sqrt(data.train.heldin.astype(float)).mean(axis=(0, 1))
    np.testing.assert_allclose(params["input_mean"], [*roots, 0], rtol=1e-5)
    known = data.train.counts(2, 1)
    rates = known.astype(float).mean(axis=(0, 1))
    np.testing.assert_allclose(params["decoder"]["bias"], np.log(rates), rtol=1e-4)


def test_frozen_parts_by_name() -> None:
    marked = finetune.frozen(tree(6, 4, 0.0), ("layers_0.spatial", "embedder"))
    assert {name for name, is_still in finetune.names(marked).items() if is_still} == {
        *("embedder.kernel", "embedder.bias", "layers_0.spatial.qk.kernel"),
    }
    with pytest.raises(UserError, match="did you mean embedder"):
        finetune.frozen(tree(6, 4, 0.0), ("embeder",))
    # Half a name is no name: layers_1 must not take layers_10 along.
    with pytest.raises(UserError, match="which is no part"):
        finetune.frozen(tree(6, 4, 0.0), ("layers",))
    with pytest.raises(UserError, match="every part"):
        finetune.frozen({"a": np.zeros(2)}, ("a",))


LEARNED = {"position": "learned"}
CONFIG = [
    "--config=tiny",
    "--config.data.validation_fraction=0.25",
    "--config.model.heads=1",
    "--config.model.feedforward=6",
    "--config.train.epochs=2",
    "--config.train.batch=4",
]


def train(tmp_path: Path, data: Path, name: str, *more: str) -> int:
    path = f"--config.data.path={data}"
    return main.main(["train", *CONFIG, path, f"--workdir={tmp_path / name}", *more])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two imported models; the second says that it is the better one."""
    folder, run = (tmp_path_factory.mktemp(name) for name in ("models", "run"))
    for seed, name in enumerate("ab"):
        one(folder / f"{name}.pth", seed=seed, cobps=0.1 + seed, USE_CONTRAST_PROJECTOR=True,
            LINEAR_PROJECTOR=True, **{"TRAIN.BATCH_SIZE": 4})  # fmt: skip
    return imported(run, folder)


@pytest.mark.long
def test_frozen_parts_stay_and_others_move(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = source.parent / "small.h5"
    more = [f"--init={source}", "--freeze=layers_0,embedder"]
    assert train(tmp_path, data, "tuned", *more) == 0
    assert "newly initialised: nothing" in " ".join(capsys.readouterr().err.split())
    given = finetune.names(restore.load(source).params(1, "last"))  # the better one
    tuned = finetune.names(restore.load(tmp_path / "tuned").params(0, "last"))
    for name, leaf in tuned.items():
        still = name.startswith(("layers_0.", "embedder."))
        assert np.array_equal(leaf, given[name]) == still, name
        assert np.allclose(leaf, given[name], atol=0.2), name  # two epochs from where it began

    # The run goes on without its flags, with its own, and with no others.
    assert train(tmp_path, data, "tuned") == 0
    assert train(tmp_path, data, "tuned", *more) == 0
    capsys.readouterr()
    assert train(tmp_path, data, "tuned", f"--init={source}") == 2
    assert "was initialised otherwise" in capsys.readouterr().err


@pytest.mark.long
def test_other_neurons_are_read_anew(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = record(tmp_path / "more.h5", (*SIZES[:2], 6, 3))
    assert train(tmp_path, data, "other", f"--init={source}", "--config.population=3") == 0
    assert "embedder" in capsys.readouterr().err
    told = json.loads((tmp_path / "other" / "init.json").read_text())
    assert (told["init"], told["neurons"], told["frozen"]) == (str(source), "", [])
    assert train(tmp_path, data, "same", f"--init={source}", "--neurons=same") == 2
    assert "give neurons=other" in capsys.readouterr().err


def test_member_k_begins_as_the_kth_best(source: Path) -> None:
    found = finetune.source(source)
    loaded = restore.load(source)
    for place, k in enumerate((1, 0)):
        for ours, theirs in zip(
            jax.tree.leaves(found.params[place]),
            jax.tree.leaves(loaded.params(k, "cobps")),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_mistakes_are_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = source.parent / "small.h5"
    cases = [
        ([f"--init={source}", "--config.model.norm=post"], "model.norm: pre -> post"),
        (["--freeze=embedder"], "give init (--init=DIR), the run that has them"),
        ([f"--init={tmp_path}"], "no run directory"),
        ([f"--init={source}", "--freeze=encoder"], "which is no part"),
    ]
    for more, words in cases:
        assert train(tmp_path, data, "wrong", *more) == 2, more
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
