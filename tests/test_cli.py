"""The command line, as a user meets it: every mistake is one line and exit code 2."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stndt_jax.cli import main
from stndt_jax.cli.flags import Flags
from stndt_jax.config import loading, schema
from stndt_jax.data import hdf5, synthetic
from stndt_jax.errors import UserError


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small reach recording with its targets beside it."""
    folder = tmp_path_factory.mktemp("recording")
    data = synthetic.make(
        "reach", seed=1, trials=12, eval_trials=6, bins=6, bins_forward=2, heldin=4, heldout=2,
        directions=2, curved=False,
    )  # fmt: skip
    hdf5.write(data, folder / "small.h5")
    hdf5.write_targets(data, folder / "small_target.h5")
    return folder


def _edited(recording: Path, name: str, edit: object) -> Path:
    """A copy of the recording after ``edit(file)``."""
    path = recording / f"{name}.h5"
    path.write_bytes((recording / "small.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        edit(file)  # type: ignore[operator]
    return path


def _without_heldout(file: h5py.File) -> None:
    for key in [key for key in file if "heldout" in key]:
        del file[key]


def _fewer_trials(file: h5py.File) -> None:
    counts = file["train_spikes_heldout"][:-1]
    del file["train_spikes_heldout"]
    file["train_spikes_heldout"] = counts


def _negative(file: h5py.File) -> None:
    counts = file["train_spikes_heldin"][()].astype(np.float32)
    counts[0, 0, 0] = -1
    del file["train_spikes_heldin"]
    file["train_spikes_heldin"] = counts


def _train(recording: Path, *flags: str, data: str = "small.h5", workdir: str = "run") -> list[str]:
    return [
        "train",
        "--config=tiny",
        f"--config.data.path={recording / data}",
        f"--workdir={recording / workdir}",
        *flags,
    ]


MISTAKES = {
    "unknown command": (lambda r: ["trian"], "there is no command trian; did you mean train?"),
    "unknown config": (
        lambda r: ["train", "--config=mc_mase", f"--workdir={r}"],
        "did you mean mc_maze?",
    ),
    "unknown key": (
        lambda r: _train(r, "--config.optimizer.learnin_rate=1"),
        "did you mean learning_rate?",
    ),
    "section as value": (lambda r: _train(r, "--config.model=3"), "holds other keys"),
    "wrong type": (
        lambda r: _train(r, "--config.train.epochs=many"),
        "config.train.epochs=many: must be a whole number, not 'many'",
    ),
    "out of range": (lambda r: _train(r, "--config.model.dropout=1.5"), "config.model.dropout"),
    "no members": (lambda r: _train(r, "--config.population=0"), "config.population is 0"),
    "members' length": (
        lambda r: _train(r, "--config.members.learning_rate=(0.1,0.2)"),
        "has 2 values for a population of 1",
    ),
    "heads": (lambda r: _train(r, "--config.model.heads=4"), "does not divide the 6 neurons"),
    "missing file": (lambda r: _train(r, data="absent.h5"), "absent.h5"),
    "no path": (
        lambda r: ["train", "--config=tiny", f"--workdir={r}"],
        "config.data.path is empty",
    ),
    "no workdir": (lambda r: ["train", "--config=tiny"], "--workdir is missing"),
    "no held-out": (lambda r: _train(r, data="unsplit.h5"), "train_spikes_heldout"),
    "shapes": (lambda r: _train(r, data="shapes.h5"), "train_spikes_heldout"),
    "negative counts": (lambda r: _train(r, data="negative.h5"), "train_spikes_heldin"),
    "unwritable workdir": (lambda r: _train(r, workdir="small.h5/run"), "cannot be written"),
    "bad fraction": (
        lambda r: _train(r, "--config.data.validation_fraction=0.01"),
        "validation_fraction",
    ),
    "no run": (lambda r: ["evaluate", str(r / "nothing")], "no run directory"),
    "unknown flag": (lambda r: ["evaluate", str(r), "--traget=x"], "traget"),
    "too few words": (lambda r: ["evaluate"], "usage: stndt evaluate DIR"),
    "unknown simulation": (lambda r: ["synth", "lorens", f"--out={r / 'x.h5'}"], "lorenz"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(
    mistake: str, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _edited(recording, "unsplit", _without_heldout)
    _edited(recording, "shapes", _fewer_trials)
    _edited(recording, "negative", _negative)
    argv, expected = MISTAKES[mistake]
    assert main.main(argv(recording)) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("stndt: error: ")
    assert expected in line
    assert captured.out == ""


ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if "generated" not in page.parts),
]
HELP = ["", *main.COMMANDS, "prepare mc_maze", "prepare custom", "prepare arrays", "prepare spikes"]
# Of the words that this project once used for those of the field.
BANNED = (
    r"told|tells?|tellings?|sittings?|draws?|drawn|portions?|judges?|judged|places?|lest|goes on|"
    r"looked at|looks at|stands?|begun|anew|by itself|room|brings?|brought|folders?"
)


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main.main([*command.split(), "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", HELP)
def test_help_has_a_sentence_usage_and_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(command, capsys)
    first, blank, *_ = text.splitlines()
    assert first.endswith((".", ":")) and not blank
    assert f"usage: stndt {command}".rstrip() in text.replace("NAME --nwb", "mc_maze --nwb")
    assert f"example: stndt {command}" in text
    assert not [line for line in text.splitlines() if len(line) > 80]
    assert not re.findall(rf"\b({BANNED})\b", text, re.IGNORECASE)


def test_help_says_what_is_required_and_what_is_the_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = {command: " ".join(help_of(command, capsys).split()) for command in HELP if command}
    for command in ("train", "seeds", "search"):
        assert "--config.data.path=FILE HDF5 file of the recording (required" in texts[command]
        assert "config.json of a run (default: auto)" in texts[command]
    for command in ("demo", "reproduce"):
        assert "--config=NAME|FILE" not in texts[command].partition(" flags ")[2]
        assert main.main([command, *["mc_maze"] * (command == "reproduce"), "--config=tiny"]) == 2
        assert "--config=tiny cannot be set" in capsys.readouterr().err
    assert "(default: 8, or 120 with --budget=paper)" in texts["reproduce"]
    # Keys have the values of auto, not those of configs/default.py.
    assert "model.input standardised" in texts["train"]
    assert "model.layers (rule)" in texts["train"]


class Parsed(Exception):  # noqa: N818
    pass


def read(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads command lines as their commands do, and does not run them."""
    settings: list[str] = []

    def parsed(self: Flags, *arguments: Any) -> None:
        values, _ = parse(self, *arguments)
        settings.extend(values.settings)
        raise Parsed

    parse = Flags.parse
    monkeypatch.setattr(Flags, "parse", parsed)
    for line in lines:
        with pytest.raises(Parsed):
            main.main(shlex.split(line, comments=True))
    keys = [key for key in loading.keys(["", *settings]) if not key.startswith("--config")]
    members = {f"members.{name}" for name in schema.HYPER_FIELDS}
    assert set(keys) <= {name for name, _, _ in schema.documentation()} | members


@pytest.mark.parametrize("command", HELP)
def test_examples_are_command_lines(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their flags and keys exist, and none that is required is missing."""
    text = re.sub(r"\\\n *", "", help_of(command, capsys))
    examples = re.findall(r"^example: stndt (.+)$", text, re.MULTILINE)
    assert examples
    read(examples, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_hold_command_lines(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    blocks = "".join(content for language, content in fenced if not language)
    # Without comments behind a command.
    joined = re.sub(r"  +#.*", "", re.sub(r"\\\n *", "", blocks))
    read(re.findall(r"^stndt ([a-z].*)$", joined, re.MULTILINE), monkeypatch)


def test_the_list_of_commands_is_quick() -> None:
    code = (
        "import sys\nfrom stndt_jax.cli import main\nmain.main(['--help'])\n"
        "print(sorted({'jax', 'numpy', 'absl', 'h5py'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for group in main.GROUPS:
        assert f"\n{group}\n" in done.stdout
    for command in main.COMMANDS:
        assert f"\n  {command} " in done.stdout
    assert done.stderr.strip() == "['absl']"


CUSTOM = [
    *("prepare", "custom", "--nwb=x", "--align=cue_time", "--window=-250,450"),
    "--out=y",
]

IGNORED = {
    "export of a run": (["export", "RUN", "--out=x", "--name=a"], "--name has no effect on a run"),
    "export of rates": (
        ["export", "small.h5", "--out=x.h5", "--data=small.h5", "--weights=beside"],
        "--weights has no effect on a submission file",
    ),
    "a name without rates": (
        ["evaluate", "RUN", "--name=x"],
        "--name has no effect without --rates",
    ),
    "shots of rates": (
        ["evaluate", "--rates=x", "--name=x", "--data=small.h5", "--shots=3"],
        "--shots has no effect with --rates",
    ),
    "more epochs of a new run": (
        ["train", "--config=tiny", "--workdir=s", "--fresh", "--extend"],
        "--extend has no effect with --fresh",
    ),
    "population twice": (
        ["train", "--config=tiny", "--workdir=s", "--population=2", "--config.population=3"],
        "--config.population has no effect beside --population",
    ),
    "search here": (
        ["search", "--config=tiny", "--workdir=s", "--ray-address=auto"],
        "--ray-address has no effect without --executor=ray",
    ),
    "search's population": (
        ["search", "--config=tiny", "--workdir=s", "--config.population=4"],
        "--config.population has no effect in a search; give --population",
    ),
    "reproduction's population": (
        ["reproduce", "mc_maze", "--nwb=x", "--workdir=s", "--config.population=4"],
        "--config.population has no effect in a search",
    ),
    "seeds' population": (
        ["seeds", "--config=tiny", "--workdir=s", "--config.population=4"],
        "--config.population has no effect here; give the number of seeds with --n",
    ),
    "demo's data": (
        ["demo", "--out=d", "--config.data.path=x"],
        "--config.data.path has no effect",
    ),
    "silencing": (["interpret", "RUN", "--nodrop", "--repeats=3"], "--repeats has no effect with"),
    "no decoding": (["interpret", "RUN", "--nodrop", "--nodecode"], "--nodecode has no effect"),
    "all members": (
        ["ensemble", "RUN", "--out=x", "--select=all", "--max=3"],
        "--max has no effect with --select=all",
    ),
    "latents": (
        ["baseline", "psth", "--data=small.h5", "--latents=3"],
        "--latents has no effect on the psth baseline",
    ),
    "what NDT is": (
        ["baseline", "ndt", "--data=small.h5", "--out=x", "--config.model.spatial=true"],
        "--config.model.spatial has no effect on the ndt baseline",
    ),
    "jitter": (
        ["prepare", "mc_maze", "--nwb=x", "--out=y", "--seed=3"],
        "--seed has no effect on mc_maze",
    ),
    "held-out twice": (
        [*CUSTOM, "--heldout-column=c", "--heldout-fraction=.5"],
        "--heldout-fraction has no effect with --heldout-column",
    ),
    "split twice": ([*CUSTOM, "--split-column=c", "--split=.5/.5"], "--split has no effect with"),
    "nothing to sample": (
        [*CUSTOM, "--split-column=c", "--heldout-column=c", "--seed=1"],
        "--seed has no effect with --heldout-column and --split-column",
    ),
    "lag of nothing": ([*CUSTOM, "--lag-ms=20"], "--lag-ms has no effect without --behavior"),
}


@pytest.mark.parametrize("case", IGNORED)
def test_flags_that_would_be_ignored_are_refused(
    case: str,
    recording: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.h5").symlink_to(recording / "small.h5")
    argv, expected = IGNORED[case]
    assert main.main(argv) == 2
    assert f"stndt: error: {expected}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["small.h5"]


@pytest.mark.parametrize(
    ("missing", "extra"), [("optuna.trial", "search"), ("matplotlib", "plots"), ("ray", "ray")]
)
def test_a_missing_package_is_one_line(
    missing: str,
    extra: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def import_module(_: str) -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(main.importlib, "import_module", import_module)
    assert main.main(["search"]) == 2
    assert capsys.readouterr().err == (
        f"stndt: error: stndt search needs {missing.partition('.')[0]}, which is not installed; "
        f"run in the clone of stndt_jax: pip install -e '.[{extra}]'\n"
    )
    missing = "numpy"
    with pytest.raises(ModuleNotFoundError):
        main.main(["search"])


def test_overrides_reach_the_configuration() -> None:
    config = loading.load(
        [
            "--config=reach",
            "--config.model.layers=3",
            "--config.model.spatial=false",
            "--config.members.dropout=(0.1, 0.2, 0.3, 0.4)",
        ]
    )
    assert config.model.layers == 3
    assert config.model.spatial is False
    assert config.members["dropout"] == (0.1, 0.2, 0.3, 0.4)


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from stndt_jax.configs import tiny\n\n"
        "def get_config():\n    config = tiny.get_config()\n"
        "    config.train.epochs = 7\n    return config\n"
    )
    assert loading.load([f"--config={path}"]).train.epochs == 7


@pytest.mark.slow
def test_train_evaluate_resume_and_refuse(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One population from the command line to its scores, and what the directory then allows."""
    argv = _train(
        recording,
        f"--config.data.targets={recording / 'small_target.h5'}",
        "--config.data.name=reach",
        "--config.model.layers=1",
        "--config.population=2",
        "--config.train.epochs=4",
        "--config.train.batch=6",
        workdir="whole",
    )
    run = recording / "whole"
    assert main.main(argv) == 0
    assert main.main(["evaluate", str(run)]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [2, 4]
    scores = json.loads((run / "scores.json").read_text())
    best = max(range(2), key=lambda k: max(row["valid_cobps"][k] for row in rows))
    assert scores["best_member"]["member"] == best
    # Validation co-bps is of the same trials that are scored: two computations of one number.
    reached = max(row["valid_cobps"][best] for row in rows)
    assert scores["best_member"]["co_bps"] == pytest.approx(reached, abs=1e-4)
    with h5py.File(run / "submission.h5") as file:
        assert file["reach_20/eval_rates_heldout"].shape == (6, 6, 2)
        assert file["reach_20/eval_rates_heldin_forward"].shape == (6, 2, 4)
    capsys.readouterr()

    assert main.main(argv) == 0
    assert "continuing from the checkpoint at epoch 4 of 4" in capsys.readouterr().err
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    # As a killed process leaves it.
    record = json.loads((run / "run.json").read_text())
    record["sessions"][-1].pop("how")
    (run / "run.json").write_text(json.dumps(record))
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace('"epochs": 4', '"epochs": 9'))
    assert main.main(["evaluate", str(run)]) == 0
    assert f"trained for 4 of 9 epochs: continue with stndt train --workdir={run}" in (
        capsys.readouterr().out
    )
    (run / "config.json").write_text(config)
    assert main.main([w.replace("epochs=4", "epochs=9") for w in argv]) == 2
    assert "train.epochs: 4 -> 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "flag"),
    [
        (["synth", "reach", "--out=a.h5", "--out", "b.h5"], "--out"),
        (["synth", "reach", "--out=a.h5", "--seed=1", "-seed=1"], "--seed"),
        (["train", "--config=tiny", "--config=reach", "--workdir=x"], "--config"),
        (["report", "x", "--figures", "--nofigures"], "--nofigures"),
    ],
)
def test_a_flag_given_twice_is_refused(
    argv: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(argv) == 2
    assert f"error: {flag} is given twice" in capsys.readouterr().err


def test_of_a_key_given_twice_the_last_counts_and_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    epochs = ["--config.train.epochs=2", "--config.train.epochs", "0"]
    assert main.main(["train", "--config=tiny", *epochs, "--workdir=x"]) == 2
    said = capsys.readouterr().err
    assert "--config.train.epochs is given twice; the last one counts" in said
    assert "config.train.epochs is 0" in said


def test_a_missing_argument_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["check-submission", "--data=x.h5"]) == 2
    assert "FILE is missing; usage: stndt" in capsys.readouterr().err


def test_another_recording_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["synth", "lorenz", f"--out={tmp_path / 'x.h5'}"]
    assert main.main(argv) == main.main(argv) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main.main([*argv, "--seed=1"]) == 2
    assert "holds something else than the recording" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "x.h5").unlink()
    assert main.main([*argv, "--seed=1"]) == 2
    assert "x_target.h5 would be replaced" in capsys.readouterr().err


# Commands that write, and their output at the end; what they read does not exist.
WRITING = {
    "synth": ["synth", "reach"],
    "prepare custom": ["prepare", "custom", "--nwb=x.nwb", "--align=a", "--window=0,10"],
    "prepare arrays": ["prepare", "arrays", "--spikes=x.npy", "--bin-ms=5"],
    "prepare": ["prepare", "mc_maze", "--nwb=nowhere"],
    "demo": ["demo"],
    "baseline": ["baseline", "smoothing", "--data=x.h5"],
    "ensemble": ["ensemble", "nowhere"],
    "retrain": ["retrain", "nowhere", "--data=x.h5"],
    "cut": ["cut", "nowhere", "--members=0"],
    "import": ["import", "x.pth", "--data=x.h5"],
    "export": ["export", "nowhere"],
    "infer": ["infer", "nowhere", "--spikes=x.npy"],
    "interpret": ["interpret", "nowhere"],
    "figures": ["figures", "nowhere"],
    "report": ["report", "nowhere"],
    "compare": ["compare", "nowhere", "nowhere"],
}  # fmt: skip


@pytest.mark.parametrize("command", WRITING)
def test_an_output_is_checked_before_work_begins(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("no directory")
    name = "r.npy" if command == "infer" else "r"
    assert main.main([*WRITING[command], f"--out=file/new/{name}"]) == 2
    error = capsys.readouterr().err
    assert "cannot be made a directory" in error and "file/new" in error
    assert len(error.splitlines()) == 1


def test_a_warning_is_shown_once_a_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_module(_: str) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            for text in ("9 of 155 neurons never spike", "something else") * 3:
                warnings.warn(text, UserWarning, stacklevel=1)
        raise UserError("the end")

    monkeypatch.setattr(main.importlib, "import_module", import_module)
    for _ in range(2):
        assert main.main(["search"]) == 2
        assert capsys.readouterr().err.splitlines() == [
            "stndt: warning: 9 of 155 neurons never spike",
            "stndt: warning: something else",
            "stndt: error: the end",
        ]


def test_flags_that_every_command_has() -> None:
    """They reach the modules that are imported later, and no command refuses them."""
    code = (
        "import os, sys\nfrom stndt_jax.cli import main\n"
        "sys.argv = ['stndt', '--version', '--no-lock', '--no-cache']\n"
        "try:\n    main.entry()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(os.environ['STNDT_NO_LOCK'], os.environ['STNDT_CACHE'], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "1 off"
