"""A run as a folder of its own: the same rates, elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.imported_runs import SIZES, imported, one

from stndt_jax.cli import main
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


def test_infer_of_no_trials(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", counts(0))
    y = tmp_path / "y.npy"
    assert main.main(["infer", str(model), f"--spikes={tmp_path / 'x.npy'}", f"--out={y}"]) == 0
    assert np.load(y).shape == (0, T + F, N + M)


def test_mistakes_are_one_line(
    run: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = {"good": counts(2), "flat": counts(2)[0], "other": counts(2)[:, :-1],
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
        (infer(model, "flat"), "requires (trials, 5 observed bins, 4 held-in neurons)"),
        (infer(model, "other"), "has shape (2, 4, 4)"),
        (infer(model, "half"), "counts are whole numbers"),
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
