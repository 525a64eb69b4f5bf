"""A run as a folder of its own: the same rates, elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.imported_runs import SIZES, imported, one

from stndt_jax import files
from stndt_jax.cli import main
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import new_counts
from stndt_jax.interop import stablehlo, stablehlo_loader, stacks
from stndt_jax.training import restore, step

T, F, N, M = SIZES
V1 = Path(__file__).parent / "data" / "v1" / "model"  # test_old_files.py says how it was made


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
    manifest = json.loads((out / "manifest.json").read_text())
    assert bool(manifest["weights"]) == (request.param == "beside")
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
    assert (manifest["format"], manifest["made_again"]) == (2, [])
    age = datetime.now(UTC) - datetime.fromisoformat(manifest["exported"])
    assert timedelta(0) <= age < timedelta(hours=2)
    assert "jax" in manifest["versions"]
    assert not any("projector" in name for name in manifest["weights"])


def test_the_loader_needs_jax_numpy_and_flatbuffers_only(
    run: Path, model: Path, tmp_path: Path
) -> None:
    """In a new interpreter, in the folder itself, where nothing else can be imported."""
    np.save(tmp_path / "x.npy", counts(3))
    code = """
import sys
for name in ("stndt_jax", "flax", "optax", "orbax", "h5py", "ml_collections"):
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


def edited(model: Path, out: Path, edit: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of a model with another manifest."""
    shutil.copytree(model, out)
    manifest = json.loads((out / "manifest.json").read_text())
    edit(manifest)
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")


def test_a_model_is_made_again_without_its_run(
    run: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In place and elsewhere, though its program cannot be read any more."""
    old = edited(model, tmp_path / "old", lambda manifest: manifest.update(exported=ago(200)))
    manifest = json.loads((old / "manifest.json").read_text())
    (old / "rates.stablehlo").write_bytes(b"of a version that nobody has")
    assert main.main(["export", "--again", str(old), f"--out={tmp_path / 'new'}"]) == 0
    assert (old / "rates.stablehlo").read_bytes() == b"of a version that nobody has"
    assert main.main(["export", "--again", str(old)]) == 0
    assert f"exported on {ago(200)[:10]} with jax {jax.__version__}" in capsys.readouterr().out
    x = counts(7)
    wanted = stablehlo_loader.Model(model).rates(x)
    np.testing.assert_allclose(wanted, expected(run, x), rtol=1e-5)
    for folder in (old, tmp_path / "new"):
        np.testing.assert_array_equal(stablehlo_loader.Model(folder).rates(x), wanted)
        assert set(contents(folder)) == set(contents(model))
        made = json.loads((folder / "manifest.json").read_text())
        changed = {name for name in manifest if made[name] != manifest[name]}
        assert changed <= {"exported", "sha256", "made_again"}
        (record,) = made["made_again"]
        assert record["date"] == made["exported"] > ago(1)
        assert record["from"] == {
            "exported": manifest["exported"],
            "versions": manifest["versions"],
            "sha256": manifest["sha256"]["rates.stablehlo"],
        }
    # What was made again can be made again.
    assert main.main(["export", "--again", str(old)]) == 0
    assert len(json.loads((old / "manifest.json").read_text())["made_again"]) == 2


def test_other_files_in_the_directory_are_not_replaced(
    run: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "load.py").write_text("my own code")
    for command in (["export", str(run)], ["export", "--again", str(model)]):
        assert main.main([*command, f"--out={mine}"]) == 2
        said = capsys.readouterr().err
        assert "mine holds other files (load.py), not an exported model; choose another" in said
    assert [path.name for path in mine.iterdir()] == ["load.py"]
    assert (mine / "load.py").read_text() == "my own code"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": []}, "its entry sha256 is missing or damaged"),
        ({"made_again": None}, "its entry made_again is missing or damaged"),
        ({"input": {}}, "its entry input is missing or damaged"),
        ({"versions": {"jax": 4}}, "its entry versions is missing or damaged"),
        ({"exported": "yesterday"}, "its date 'yesterday' is none"),
        ({"format": "2"}, "its entry format is missing or damaged"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(
    model: Path, tmp_path: Path, changes: dict[str, Any], words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = edited(model, tmp_path / "damaged", lambda manifest: manifest.update(changes))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    np.save(tmp_path / "counts.npy", np.zeros((1, T, N), np.uint8))
    given = [f"--spikes={tmp_path / 'counts.npy'}", f"--out={tmp_path / 'rates.npy'}"]
    for command in (["infer", str(out), *given], ["export", "--again", str(out)]):
        assert main.main(command) == 2
        assert words in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_date_without_a_time_zone_is_read(model: Path, tmp_path: Path) -> None:
    out = edited(model, tmp_path / "naive", lambda manifest: manifest.update(exported="2026-01-01"))
    with pytest.warns(UserWarning, match="exported on 2026-01-01"):
        stablehlo_loader.Model(out)


def test_a_model_that_cannot_be_made_again_stays_as_it_was(
    run: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def changed(name: str, file: str, edit: Callable[[dict[str, Any]], Any]) -> Path:
        """A copy with another JSON file or array file, whose checksum is right."""
        out = shutil.copytree(model, tmp_path / name)
        if file == "weights.npz":
            with np.load(out / file) as arrays:
                whole = dict(arrays)
            edit(whole)
            np.savez(out / file, **whole)
        else:
            whole = json.loads((out / file).read_text())
            edit(whole)
            (out / file).write_text(json.dumps(whole))
        manifest = json.loads((out / "manifest.json").read_text())
        manifest["sha256"][file] = files.sha256(out / file)
        (out / "manifest.json").write_text(json.dumps(manifest))
        return out

    removed = shutil.copytree(model, tmp_path / "removed")
    (removed / "architecture.json").unlink()
    damaged = shutil.copytree(model, tmp_path / "damaged")
    (damaged / "weights.npz").write_bytes(b"nothing")
    first = shutil.copytree(V1, tmp_path / "first")
    cases = [
        (removed, "architecture.json is missing or is not the file that was exported"),
        (damaged, "weights.npz is missing or is not the file that was exported"),
        (first, "has format 1, without what is needed to make it again; export the model again"),
        (run, f"export it with stndt export {run} --out=DIR"),
        (tmp_path, "give a folder that stndt export wrote"),
        (changed("less", "weights.npz", lambda x: x.pop("decoder.bias")), "bias is missing"),
        (changed("more", "weights.npz", lambda x: x.update(odd=np.ones(2))), "odd is unknown"),
        (
            changed("shape", "weights.npz", lambda x: x.update({"decoder.bias": np.ones((2, 3))})),
            "decoder.bias has shape (2, 3), not (2, 6)",
        ),
        (
            changed("new", "architecture.json", lambda x: x["stacks"][0]["hyper"].update(new=[1])),
            "the hyperparameter new is unknown; use a newer version",
        ),
        (
            changed("class", "architecture.json",
                    lambda x: x["stacks"][0]["config"]["model"].update(network="mine")),
            "which is not registered",
        ),
        (changed("none", "architecture.json", lambda x: x.pop("dims")), "is damaged"),
        (
            edited(model, tmp_path / "newer", lambda manifest: manifest.update(format=3)),
            "has format 3, but this version reads formats up to 2",
        ),
    ]  # fmt: skip
    for folder, words in cases:
        before = contents(folder)
        assert main.main(["export", "--again", str(folder)]) == 2, words
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
        assert contents(folder) == before
    for flag in ("--weights=beside", "--data=x.h5", "--select=loss"):
        assert main.main(["export", "--again", str(model), flag]) == 2
        assert "has no effect with --again" in capsys.readouterr().err
    assert main.main(["export", "--again", str(model), f"--out={run}"]) == 2
    assert "holds a run" in capsys.readouterr().err

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    before = contents(model)
    monkeypatch.setattr(stablehlo, "_write_program", full)
    assert main.main(["export", "--again", str(model)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert contents(model) == before and len(list(model.iterdir())) == len(before)


def test_a_hyperparameter_that_came_later_has_its_earlier_value(
    model: Path, tmp_path: Path
) -> None:
    members = stacks.read(model)
    path = shutil.copytree(model, tmp_path / "old") / "architecture.json"
    described = json.loads(path.read_text())
    for stack in described["stacks"]:
        del stack["hyper"]["mask_max_span"], stack["config"]["model"]["width"]
    path.write_text(json.dumps(described))
    jax.tree.map(np.testing.assert_array_equal, stacks.read(tmp_path / "old"), members)
    described["stacks"][0]["hyper"]["dropout"] = [0.5]
    path.write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"damaged.*dropout has shape"):
        stacks.read(tmp_path / "old")


def test_no_path_of_the_recording_leaves_with_a_model(model: Path) -> None:
    config = json.loads((model / "architecture.json").read_text())["stacks"][0]["config"]
    assert config["data"]["path"] == config["data"]["targets"] == ""


def test_an_old_model_says_so(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = edited(model, tmp_path / "an old one", lambda m: m.update(exported=ago(151)))
    recent = edited(model, tmp_path / "recent", lambda m: m.update(exported=ago(149)))
    convention = edited(
        model, tmp_path / "convention", lambda m: m.update(calling_convention_version=8)
    )
    stablehlo_loader.Model(recent)
    with pytest.warns(UserWarning) as caught:
        stablehlo_loader.Model(old)
    (one,) = caught
    for words in (
        f"exported on {ago(151)[:10]} with jax {jax.__version__}, is 151 days old",
        f"make it again: stndt export --again '{old}'",
    ):
        assert words in str(one.message)
    with pytest.warns(UserWarning, match="has calling convention 8, but jax") as caught:
        stablehlo_loader.Model(convention)
    assert len(caught) == 1 and "--again" in str(caught[0].message)
    np.save(tmp_path / "x.npy", counts(2))
    spikes, out = f"--spikes={tmp_path / 'x.npy'}", f"--out={tmp_path / 'y.npy'}"
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main.main(["infer", str(old), spikes, out]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stndt: warning: the model in") and "is 151 days old" in line


@pytest.mark.parametrize("content", [b"", b"of another version", b"\0" * 100])
def test_a_program_that_jax_cannot_read_is_one_sentence(
    model: Path, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = edited(model, tmp_path / "model", lambda m: m["sha256"].update(
        {"rates.stablehlo": files.sha256(content)}, ) or m.update(exported=ago(400)))  # fmt: skip
    (folder / "rates.stablehlo").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read by jax") as caught:
        stablehlo_loader.Model(folder)
    assert f"exported on {ago(400)[:10]} with jax {jax.__version__}" in str(caught.value)
    assert f"stndt export --again {folder}" in str(caught.value)
    np.save(tmp_path / "x.npy", counts(2))
    argv = ["infer", str(folder), f"--spikes={tmp_path / 'x.npy'}", f"--out={tmp_path / 'y.npy'}"]
    assert main.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be read by jax" in line


def test_a_model_of_format_1_says_how_to_get_format_2(tmp_path: Path) -> None:
    old = shutil.copytree(V1, tmp_path / "model")
    words = f"has format 1.*export it again from its run: stndt export RUN --out={old}"
    with pytest.warns(UserWarning, match=words) as caught:
        stablehlo_loader.Model(old)
    assert len(caught) == 1
    written = datetime(2026, 1, 2, 3, tzinfo=UTC).timestamp()
    os.utime(old / "manifest.json", (written, written))
    with pytest.warns(UserWarning, match=r"exported on 2026-01-02 or before with jax 0\.10\.2"):
        stablehlo_loader.Model(old)
    manifest = json.loads((old / "manifest.json").read_text())
    manifest["sha256"]["rates.stablehlo"] = files.sha256(b"nothing")
    (old / "manifest.json").write_text(json.dumps(manifest))
    (old / "rates.stablehlo").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot be read by jax.*export it again from its run"):
        stablehlo_loader.Model(old)


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
    (newer / "manifest.json").write_text(json.dumps(manifest | {"format": 3}))
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
        (infer(newer, "good"), "has format 3, but this loader reads formats 1 and 2"),
        (["infer", str(model), "--out=y.npy"], "--spikes is missing"),
        (["export", str(run)], "--out is missing"),
        (["export", str(tmp_path), f"--out={tmp_path / 'm'}"], "no run directory"),
    ]
    for argv, words in cases:
        assert main.main(argv) == 2, argv
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    assert not (tmp_path / "y.npy").exists()
