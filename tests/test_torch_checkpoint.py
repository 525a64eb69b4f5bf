"""Published checkpoints as run directories, from the command line to their rates."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import torch_files
from helpers.imported_runs import OPTIONS, SIZES, imported, one, record, state_of
from helpers.published import make_options

from stndt_jax.cli import main
from stndt_jax.config import loading, schema
from stndt_jax.errors import UserError
from stndt_jax.interop import torch_checkpoint
from stndt_jax.runs import directory
from stndt_jax.training import restore

FIXTURES = Path(__file__).parent / "data" / "reference"
PTH = Path(os.environ.get("STNDT_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))


def rates_of(run: Path, group: str = "/") -> np.ndarray:
    """The evaluated trials' rates of a submission file as one array (R, T, N)."""
    with h5py.File(run / "submission.h5") as file:
        [name] = [name for name in file if not name.startswith("tables_of_")]
        found = {key: x[()] for key, x in file[name].items()}
    rows = [
        np.concatenate([found[f"eval_rates_{block}{end}"] for block in ("heldin", "heldout")], -1)
        for end in ("", "_forward")
    ]
    return np.concatenate(rows, axis=1)


def assert_published(pth: Path, npz: Path, tmp_path: Path) -> None:
    """``stndt import`` and ``stndt evaluate`` give the log-rates that PyTorch gave."""
    with np.load(npz) as given:
        config = json.loads(str(given["config"]))
        seen_RTN, lograte_RTN = given["input"], given["lograte"]
    sizes = tuple(config[key] for key in ("bins", "forward_bins", "heldin", "heldout"))
    data = record(tmp_path / "fixture.h5", sizes, seen_RTN)  # type: ignore[arg-type]
    run = tmp_path / "run"
    assert main.main(["import", str(pth), f"--data={data}", f"--out={run}"]) == 0
    assert main.main(["evaluate", str(run)]) == 0
    error = np.abs(np.log(rates_of(run)) - lograte_RTN).max()
    print(f"{pth.name}: largest error of a log-rate {error:.1e}")
    assert error < 1e-5


def test_log_rates_are_the_published_ones(tmp_path: Path) -> None:
    npz = FIXTURES / "prenorm_context_window.npz"
    with np.load(npz) as given:
        options = json.loads(str(given["config"]))["model"]
        state = {n.removeprefix("param/"): given[n] for n in given if n.startswith("param/")}
    known = {name: options[name] for name in make_options()}
    pth = torch_files.save(tmp_path / "model.pth", torch_files.checkpoint(state, **known))
    assert_published(pth, npz, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "prenorm_context_window",
        pytest.param("linear_projector", marks=pytest.mark.long),
        pytest.param("prenorm_full_context", marks=pytest.mark.long),
    ],
)
def test_log_rates_of_files_that_pytorch_wrote(name: str, tmp_path: Path) -> None:
    pth = PTH / f"{name}.pth"
    if not pth.exists():
        pytest.skip(
            f"needs {pth.name}: name its folder in the environment variable STNDT_REFERENCE"
        )
    assert_published(pth, FIXTURES / f"{name}.npz", tmp_path)


def test_the_configuration_is_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever the default is, the published model has no factors.
    factors = schema.to_mapping(loading.load(["--config=default"]))
    factors["model"] |= {"width": 8, "input": "standardised", "rate_start": "mean"}
    factors["mask"] |= {"token": "learned", "grow_full": True}
    default = schema.from_mapping(factors)
    monkeypatch.setattr(loading, "load", lambda settings: default)
    config = torch_checkpoint.read(one(tmp_path / "a.pth")).config
    assert (config.seed, config.population) == (100, 1)
    model = config.model
    assert (model.width, model.input, model.rate_start) == (0, "counts", "zero")
    assert (config.mask.token, config.mask.grow_full) == ("zero", False)
    assert (model.dropout, model.dropout_rates, model.dropout_embedding) == (0.1, 0.2, 0.25)
    assert model.spatial and model.tfixup and model.position_offset
    mask, contrast = config.mask, config.contrast
    assert (mask.mode, mask.ratio, mask.token_ratio, mask.random_ratio) == ("full", 0.25, 0.9, 0.5)
    assert (mask.max_span, mask.ramp_start, mask.ramp_end) == (3, 80, 120)
    assert (contrast.ratio, contrast.token_ratio, contrast.random_ratio) == (0.05, 0.6, 0.7)
    optimizer, train = config.optimizer, config.train
    assert (optimizer.learning_rate, optimizer.warmup_epochs) == (0.002, 50)
    assert (optimizer.schedule, optimizer.weight_decay) == ("cosine", 5e-5)
    assert (train.epochs, train.batch, train.validate_every, train.patience) == (501, 4, 20, 300)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("MODEL.LINEAR_EMBEDDER", False),
        ("MODEL.LOGRATE", False),
        ("MODEL.LOSS.TYPE", "cel"),
        ("MODEL.DECODER.LAYERS", 2),
        ("MODEL.CONTEXT_WRAP_INITIAL", True),
        ("MODEL.SPIKE_LOG_INIT", True),
        ("TRAIN.LR.SCHEDULER", "step"),
    ],
)
def test_options_that_cannot_run_are_refused_by_name(
    option: str, value: Any, tmp_path: Path
) -> None:
    path = one(tmp_path / "a.pth", **{option: value})
    with pytest.raises(UserError, match=option):
        torch_checkpoint.read(path)


def test_the_mlp_projector_is_refused_by_name(tmp_path: Path) -> None:
    path = one(tmp_path / "a.pth", USE_CONTRAST_PROJECTOR=True)
    with pytest.raises(UserError, match=r"MODEL\.LINEAR_PROJECTOR"):
        torch_checkpoint.read(path)


def test_missing_extra_and_misshapen_keys_are_all_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = state_of()
    del state["src_decoder.0.bias"], state["transformer_encoder.layers.1.norm2.weight"]
    state["head.weight"] = np.ones((2, 2), np.float32)
    state["embedder.0.weight"] = np.ones((7, 6), np.float32)
    attention = "transformer_encoder.layers.0.spatial_self_attn.in_proj_weight"
    state[attention] = np.ones((30, 7), np.float32)  # taller than three projections
    path = torch_files.save(tmp_path / "a.pth", torch_files.checkpoint(state, **OPTIONS))
    data = record(tmp_path / "small.h5", SIZES)
    assert main.main(["import", str(path), f"--data={data}", f"--out={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for name in ("src_decoder.0.bias", "layers.1.norm2.weight", "head.weight",
                 "embedder.0.weight (7, 6)", f"{attention} (30, 7)"):  # fmt: skip
        assert name in line
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_without_numbers_is_refused(tmp_path: Path) -> None:
    state = state_of()
    state["src_decoder.0.bias"][2] = np.nan
    path = torch_files.save(tmp_path / "a.pth", torch_files.checkpoint(state, **OPTIONS))
    with pytest.raises(UserError, match=r"src_decoder\.0\.bias"):
        torch_checkpoint.read(path)


@pytest.mark.long
def test_a_folder_is_one_population(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    one(folder / "b.pth", seed=1, CONTEXT_FORWARD=1, **{"MODEL.DROPOUT": 0.3})
    one(folder / "a.pth", seed=0)
    alone = {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run = imported(tmp_path / name, folder / f"{name}.pth")
        assert main.main(["evaluate", str(run)]) == 0
        alone[name] = rates_of(run)
    target = f"--targets={tmp_path / 'target.h5'}"
    run = imported(tmp_path, folder, target)
    assert main.main(["evaluate", str(run)]) == 0
    config = directory.read_config(run)
    assert config.population == 2 and config.members["dropout"] == (0.1, 0.3)
    assert config.members["context_forward"] == (2, 1)
    assert "learning_rate" not in config.members
    # The ensemble is the mean of the two models, each imported alone.
    expected = (alone["a"] + alone["b"]) / 2
    assert not np.allclose(alone["a"], alone["b"], rtol=1e-2)
    np.testing.assert_allclose(rates_of(run), expected, rtol=2e-5)
    # Validation co-bps was measured on the evaluated trials, by other code than the scores.
    scores = json.loads((run / "scores.json").read_text())
    for row in scores["members"]:
        assert row["validation_co_bps"] == pytest.approx(row["co_bps"], abs=1e-4)
    origin = json.loads((run / "imported.json").read_text())["members"]
    assert [Path(row["file"]).name for row in origin] == ["a.pth", "b.pth"]


def test_without_targets_a_checkpoint_says_its_own_score(tmp_path: Path) -> None:
    run = imported(tmp_path, one(tmp_path / "a.pth", cobps=0.21))
    loaded = restore.load(run)
    assert float(loaded.members.selection.cobps.value[0]) == pytest.approx(0.21)
    assert loaded.epoch == 140


@pytest.mark.long
@pytest.mark.parametrize("trials", [1, 2, 3])
def test_importing_needs_no_trials_for_validation(tmp_path: Path, trials: int) -> None:
    data = record(tmp_path / "few.h5", SIZES, trials=trials)
    file, out = one(tmp_path / "a.pth"), tmp_path / "run"
    assert main.main(["import", str(file), f"--data={data}", f"--out={out}"]) == 0
    assert main.main(["evaluate", str(out)]) == 0
    with h5py.File(out / "submission.h5") as rates:
        assert len(rates["few/train_rates_heldout"]) == trials
        assert len(rates["few/eval_rates_heldout"]) == 6
    fraction = directory.read_config(out).data.validation_fraction
    assert fraction == (0.0 if trials < 3 else 0.2)


def test_one_population_has_one_architecture(tmp_path: Path) -> None:
    paths = [one(tmp_path / "a.pth"), one(tmp_path / "b.pth", PRE_NORM=False)]
    with pytest.raises(UserError, match=r"model\.norm: pre -> post"):
        torch_checkpoint.population_config([torch_checkpoint.read(path) for path in paths])


def test_ndt_by_its_own_names(tmp_path: Path) -> None:
    """The original NDT names its embedder, positions and decoder otherwise."""
    spatial = ("spatial_", ".ts_")
    state = {n: x for n, x in state_of().items() if not any(s in n for s in spatial)}
    back = {new: old for old, new in torch_checkpoint._NDT_NAMES.items()}
    state = {back.get(name, name): x for name, x in state.items()}
    assert {"embedder.weight", "decoder.0.bias", "pos_encoder.pe"} <= set(state)
    whole = torch_files.checkpoint(state, **OPTIONS)
    for name in ("TEMPERATURE", "LAMBDA", "USE_CONTRAST_PROJECTOR", "CONTRAST_LAYER"):
        del whole["config"]["MODEL"][name]
    del whole["config"]["TRAIN"]["DO_CONTRAST"]
    run = imported(tmp_path, torch_files.save(tmp_path / "ndt.pth", whole))
    config = directory.read_config(run)
    assert not config.model.spatial and not config.contrast.enabled
    params = restore.load(run).params(0, "cobps")
    np.testing.assert_array_equal(params["embedder"]["kernel"], state["embedder.weight"].T)
    np.testing.assert_array_equal(params["decoder"]["bias"], state["decoder.0.bias"])


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = record(tmp_path / "small.h5", SIZES)
    good = one(tmp_path / "a.pth")
    bare = torch_files.save(tmp_path / "bare.pth", {"state_dict": {}})
    empty = tmp_path / "empty"
    empty.mkdir()
    run = imported(tmp_path, good)
    out = f"--out={tmp_path / 'other'}"
    cases = [
        (["import", str(good), out], "--data is missing"),
        (["import", str(good), f"--data={data}"], "--out is missing"),
        (["import", str(bare), f"--data={data}", out], "holds no config"),
        (["import", str(empty), f"--data={data}", out], "no .pth"),
        (["import", str(tmp_path / "no.pth"), f"--data={data}", out], "does not exist"),
        (["import", str(good), f"--data={data}", f"--out={run}"], "holds a run already"),
    ]
    capsys.readouterr()
    for argv, expected in cases:
        assert main.main(argv) == 2, argv
        (line,) = capsys.readouterr().err.splitlines()
        assert expected in line
