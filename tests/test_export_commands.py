"""A run as a folder of its own: the same rates, elsewhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.imported_runs import SIZES, imported, one

from stndt_jax.cli import main
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import new_counts
from stndt_jax.interop import stablehlo_loader
from stndt_jax.training import restore, step

T, F, N, M = SIZES


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models as one population."""
    folder = tmp_path_factory.mktemp("models")
    one(folder / "a.pth", seed=0, USE_CONTRAST_PROJECTOR=True, LINEAR_PROJECTOR=True)
    one(folder / "b.pth", seed=1, USE_CONTRAST_PROJECTOR=True, LINEAR_PROJECTOR=True,
        CONTEXT_FORWARD=1)  # fmt: skip
    return imported(tmp_path_factory.mktemp("run"), folder)


@pytest.fixture(scope="module", params=["baked", "beside"])
def model(
    run: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("model") / request.param
    assert main.main(["export", str(run), f"--out={out}", f"--weights={request.param}"]) == 0
    assert (out / "weights.npz").exists() == (request.param == "beside")
    return out


def counts(trials: int) -> np.ndarray:
    return np.random.default_rng(7).poisson(1.0, (trials, T, N)).astype(np.uint8)


def expected(run: Path, x_RTN: np.ndarray) -> np.ndarray:
    """The members' mean rate, each by itself through the training code."""
    trained = restore.load(run)
    padded = np.zeros((len(x_RTN), T + F, N + M), np.uint8)
    padded[:, :T, :N] = x_RTN
    rates = []
    for k in (0, 1):
        hyper = jax.tree.map(lambda leaf, k=k: leaf[k], trained.hyper)
        params = trained.params(k, "cobps")
        rates.append(np.asarray(step.rates(trained.arch, params, hyper, jnp.asarray(padded))))
    assert not np.allclose(rates[0], rates[1], rtol=1e-2)
    return np.mean(rates, axis=0)


def test_a_run_is_not_exported_as_a_file_of_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x.nc", "x.nwb", "x.h5"):
        assert main.main(["export", str(tmp_path), f"--out={tmp_path / name}"]) == 2
        said = capsys.readouterr().err
        assert f"submission.h5 --out={tmp_path / name}" in said and "Traceback" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_any_number_of_trials_in_chunks(run: Path, model: Path) -> None:
    exported = stablehlo_loader.Model(model)
    for trials, chunk in ((1, 256), (7, 3), (6, 3)):
        x = counts(trials)
        found = exported.rates(x, chunk)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected(run, x), rtol=1e-5)
    assert exported.rates(counts(0)).shape == (0, T + F, N + M)


def test_the_manifest_says_what_goes_in_and_comes_out(model: Path) -> None:
    manifest = json.loads((model / "manifest.json").read_text())
    assert manifest["input"]["shape"] == ["trials", T, N]
    assert manifest["output"]["shape"] == ["trials", T + F, N + M]
    assert manifest["output"]["unit"] == "expected spike counts per bin"
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert manifest["neurons"] == [f"held-in {n}" for n in range(N)] + [
        f"held-out {n}" for n in range(M)
    ]
    held_out = [False] * N + [True] * M
    assert manifest["units"] == {"unit": list(range(N + M)), "held_out": held_out}
    assert manifest["bins"] == {"observed": T, "forward": F}
    assert (manifest["bin_ms"], manifest["members"]) == (5.0, 2)
    assert "jax" in manifest["versions"]
    assert not any("projector" in name for name in manifest["weights"])


def test_the_loader_needs_jax_and_numpy_only(run: Path, model: Path, tmp_path: Path) -> None:
    """In a new interpreter, in the folder itself, where nothing else can be imported."""
    np.save(tmp_path / "x.npy", counts(3))
    code = """
import sys
for name in ("stndt_jax", "flax", "optax", "orbax", "flatbuffers", "h5py", "ml_collections"):
    sys.modules[name] = None
import numpy as np
from load import Model
np.save(sys.argv[1] + "/y.npy", Model().rates(np.load(sys.argv[1] + "/x.npy")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=model,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "y.npy")
    np.testing.assert_allclose(found, expected(run, counts(3)), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_infer_from_file_to_file(run: Path, model: Path, dtype: type, tmp_path: Path) -> None:
    x, y = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(x, counts(5).astype(dtype))
    assert main.main(["infer", str(model), f"--spikes={x}", f"--out={y}", "--chunk=2"]) == 0
    np.testing.assert_allclose(np.load(y), expected(run, counts(5)), rtol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.npy", "y.npy"]


def test_infer_of_no_trials(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", counts(0))
    y = tmp_path / "y.npy"
    assert main.main(["infer", str(model), f"--spikes={tmp_path / 'x.npy'}", f"--out={y}"]) == 2
    assert "that is no trials; give some" in capsys.readouterr().err
    assert not y.exists()


# Identifiers held-in then held-out, as of a recording whose neurons 3 and 8 are held out.
IDS = [1, 5, 9, 12, 3, 8]


@pytest.fixture(scope="module")
def named(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with identifiers that are not in ascending order."""
    folder = shutil.copytree(model, tmp_path_factory.mktemp("named") / model.name)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["units"]["unit"] = IDS
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def given(units: list[int], bins: int = T) -> np.ndarray:
    """Counts of units by their identifiers: the same ones wherever a unit stands."""
    x = np.stack([np.random.default_rng(unit).poisson(1.0, (3, T + F)) for unit in units], -1)
    return x[:, :bins].astype(np.uint8)


@pytest.mark.parametrize(
    ("units", "bins", "named_by", "words"),
    [
        (IDS[:N], T, None, ""),
        (IDS[:N], T + F, IDS[:N], ""),
        ([12, 9, 5, 1], T, [12, 9, 5, 1], ""),
        (sorted(IDS), T + F, sorted(IDS), ""),
        ([7, 1, 3, 5, 2, 9, 12], T, [7, 1, 3, 5, 2, 9, 12], ""),
        (IDS, T, None, "have all 6 neurons"),
        (IDS[:3], T, None, "have 3 neurons"),
        (IDS[:N], T - 1, None, "have 4 bins"),
        ([1, 5, 9, 3], T, [1, 5, 9, 3], "for example unit 12"),
        (IDS[:N], T, [1, 5, 9, 9], "each of the 4 neurons of the counts once"),
        (IDS[:N], T, IDS, "each of the 4 neurons of the counts once"),
    ],
)
def test_neurons_are_picked_as_run_predict_picks_them(
    named: Path, units: list[int], bins: int, named_by: list[int] | None, words: str
) -> None:
    exported = stablehlo_loader.Model(named)
    x = np.random.default_rng(0).poisson(1.0, (4, T + F, N + M))
    data = SpikeData.from_arrays(
        x[..., np.argsort(np.argsort(IDS))], bin_ms=5, bins_forward=F,
        heldout=np.isin(sorted(IDS), IDS[N:]), units=sorted(IDS),
    )  # fmt: skip
    for found in (data.units, exported.units):
        assert found is not None and found.tolist() == IDS
    counts = given(units, bins)
    if words:
        with pytest.raises(ValueError, match=words):
            exported.rates(counts, units=named_by)
        with pytest.raises(UserError, match=words):
            new_counts.checked(counts, data, named_by)
        return
    wanted = given(IDS[:N])
    np.testing.assert_array_equal(exported.inputs(counts, named_by), wanted)
    batch = new_counts.checked(counts, data, named_by).batch
    np.testing.assert_array_equal(np.asarray(batch.counts)[:, :T, :N], wanted)
    np.testing.assert_array_equal(exported.rates(counts, units=named_by), exported.rates(wanted))


def test_infer_picks_units_from_the_full_array(
    named: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "held_in.npy", given(IDS[:N]))
    np.save(tmp_path / "all.npy", given(list(range(15)), T + F))
    np.save(tmp_path / "ids.npy", np.arange(15))
    (tmp_path / "ids.txt").write_text("0, 1,2 3\n4 5 6 7-14\n")

    def infer(spikes: str, *more: str) -> int:
        out = f"--out={tmp_path / 'y.npy'}"
        return main.main(["infer", str(named), f"--spikes={tmp_path / spikes}", out, *more])

    assert infer("held_in.npy") == 0
    wanted = np.load(tmp_path / "y.npy")
    for units in ("0-14", "0,1,2,3-14", f"{tmp_path / 'ids.npy'}", f"{tmp_path / 'ids.txt'}"):
        assert infer("all.npy", f"--units={units}") == 0
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), wanted)
    capsys.readouterr()
    np.save(tmp_path / "floats.npy", np.arange(15.0))
    for units, words in {
        "0-11": "units have shape (12,); list each of the 15 neurons",
        "1-15": "",
        "2-16": "units lack 1 of the 4 held-in neurons, for example unit 1",
        "5-3": "give whole numbers or ranges",
        "absent.npy": "no such file",
        f"{tmp_path / 'floats.npy'}": "holds no list of whole numbers",
        f"{tmp_path / 'all.npy'}": "holds no list of whole numbers",
        f"{named / 'manifest.json'}": "give whole numbers or ranges",
    }.items():
        assert infer("all.npy", f"--units={units}") == (2 if words else 0)
        if words:
            (line,) = capsys.readouterr().err.splitlines()
            assert words in line


def test_a_model_exported_without_identifiers(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "old")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["units"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    exported = stablehlo_loader.Model(folder)
    np.testing.assert_array_equal(exported.inputs(given(IDS[:N], T + F)), given(IDS[:N]))
    with pytest.raises(ValueError, match="have 6 neurons; give the 4 held-in ones"):
        exported.rates(given(IDS))
    with pytest.raises(ValueError, match="exported without identifiers"):
        exported.rates(given(IDS), units=IDS)


@pytest.mark.parametrize("wrong", [[[1, 2], [3]], np.zeros((2, T)), np.full((1, T, N), "a")])
def test_what_is_no_array_of_counts_is_refused(model: Path, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"give (one array|numbers) \(trials, bins, neurons"):
        stablehlo_loader.Model(model).rates(wrong)


def test_mistakes_are_one_line(
    run: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = counts(2).astype(float)
    unknown[1, 0, 2] = np.nan
    x = {"good": counts(2), "unknown": unknown, "much": counts(2).astype(float) * 1e6 + 1e6,
         "flat": counts(2)[0], "other": counts(2)[:, :-1],
         "half": counts(2) + 0.5, "below": -counts(2).astype(int) - 1}  # fmt: skip
    for name, array in x.items():
        np.save(tmp_path / f"{name}.npy", array)
    altered = tmp_path / "altered"
    altered.mkdir()
    for file in model.iterdir():
        if file.is_file():
            (altered / file.name).write_bytes(file.read_bytes())
    program = altered / "rates.stablehlo"
    program.write_bytes(program.read_bytes()[:-1] + b"!")
    newer = tmp_path / "newer"
    newer.mkdir()
    manifest = json.loads((model / "manifest.json").read_text())
    (newer / "manifest.json").write_text(json.dumps(manifest | {"format": 2}))
    capsys.readouterr()

    def infer(folder: Path, name: str) -> list[str]:
        spikes = f"--spikes={tmp_path / name}.npy"
        return ["infer", str(folder), spikes, f"--out={tmp_path / 'y.npy'}"]

    cases = [
        (infer(model, "flat"), "counts have shape (5, 4)"),
        (infer(model, "other"), "counts have 4 bins; give the 5 observed bins of 5 ms, or all 7"),
        (infer(model, "half"), "counts are whole numbers"),
        (infer(model, "much"), "counts are whole numbers from 0 to 65535"),
        (infer(model, "unknown"), "an exported model takes no gaps: leave the trial out"),
        (infer(model, "below"), "counts are whole numbers"),
        (infer(model, "absent"), "no such file"),
        (infer(run, "good"), f"export it with stndt export {run} --out=DIR"),
        (infer(tmp_path, "good"), "give a folder that stndt export wrote"),
        (infer(altered, "good"), "not the file that was exported"),
        (infer(newer, "good"), "its format is 2, this loader reads format 1"),
        (["infer", str(model), "--out=y.npy"], "--spikes is missing"),
        (["export", str(run)], "--out is missing"),
        (["export", str(tmp_path), f"--out={tmp_path / 'm'}"], "no run directory"),
    ]
    for argv, words in cases:
        assert main.main(argv) == 2, argv
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    assert not (tmp_path / "y.npy").exists()
