"""What others made, brought here: ``import``, ``baseline``, and ``evaluate --rates``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from stndt_jax.cli.flags import new_flags, parse
from stndt_jax.errors import UserError

if TYPE_CHECKING:
    from stndt_jax.data.trials import SpikeData
    from stndt_jax.types import NDArray

BASELINES = ("smoothing", "psth", "ndt", "gpfa", "lds")


def import_(argv: list[str]) -> int:
    """Makes a run directory of a PyTorch checkpoint of STNDT or NDT.

    usage: stndt import CHECKPOINT.pth|FOLDER --data=FILE --out=DIR [--targets=FILE]

    The file is read without executing anything in it; PyTorch need not be installed. All
    checkpoints of a folder become one population. --data is the recording they were trained on.

    example: stndt import maze.lve.pth --data=mc_maze.h5 --out=runs/maze
    """
    fv = new_flags()
    flags.DEFINE_string("data", "", "the recording", flag_values=fv)
    flags.DEFINE_string("targets", "", "its target file", flag_values=fv)
    flags.DEFINE_string("out", "", "run directory to make", flag_values=fv)
    flag, (path,) = parse(fv, argv, import_, 1)
    for name, example in (("data", "mc_maze.h5"), ("out", "runs/maze")):
        if not flag[name]:
            raise UserError(f"--{name} is missing; give one, for example --{name}={example}")
    from stndt_jax.data import hdf5
    from stndt_jax.interop import torch_checkpoint as room

    data = hdf5.read(flag["data"], flag["targets"] or None)
    config = room.import_run(Path(path), data, flag["data"], flag["targets"], Path(flag["out"]))
    kind = "STNDT" if config.model.spatial else "NDT"
    print(f"imported {config.population} x {kind} into {flag['out']}")
    print(f"next: stndt evaluate {flag['out']}")
    return 0


def baseline(argv: list[str]) -> int:
    """Infers rates with a simple method and scores them like a model's.

    usage: stndt baseline smoothing|psth|ndt|gpfa|lds --data=FILE [--targets=FILE]

    smoothing  Gaussian kernel, Poisson regression to held-out neurons (chosen on training trials)
    psth       mean of each trial's condition, which no model is told
    ndt        the model without attention over neurons, trained into --out; takes --config flags
    gpfa, lds  latent states from the extras gpfa (elephant) and lds (dynamax)

    example: stndt baseline smoothing --data=mc_maze.h5 --targets=mc_maze_target.h5
    """
    fv = new_flags()
    flags.DEFINE_string("data", "", "the recording", flag_values=fv)
    flags.DEFINE_string("targets", "", "target file to score against", flag_values=fv)
    flags.DEFINE_string("run", "", "run directory to set the scores beside", flag_values=fv)
    flags.DEFINE_string("out", "", "submission file to write; ndt: run directory", flag_values=fv)
    flags.DEFINE_integer("latents", 12, "dimensions of gpfa and lds", flag_values=fv)
    from stndt_jax.config import loading

    rest, settings = loading.split(argv)
    flag, (kind,) = parse(fv, rest, baseline, 1)
    if kind not in BASELINES:
        raise UserError(f"{kind} is no baseline; choose one of {', '.join(BASELINES)}")
    if settings and kind != "ndt":
        raise UserError(f"the {kind} baseline takes no --config flags; only ndt does")

    data, targets, paths = _recording(flag)
    if kind == "ndt":
        rates = _ndt(flag["out"], paths, settings)
    else:
        rates = _rates(kind, data, flag["latents"])
        if flag["out"]:
            from stndt_jax.evaluation import submission

            submission.write(flag["out"], data.name, rates, bin_ms=data.bin_ms)
            print(f"wrote {flag['out']}")
    name = "psth (knows the condition)" if kind == "psth" else kind
    _show(name, rates, targets, flag["run"])
    return 0


def score_file(run: str, flag: Mapping[str, Any]) -> int:
    """``evaluate --rates``: scores a file, and sets it beside a run's scores where one is given."""
    if not flag["name"]:
        raise UserError("--name is missing; say what made the rates, for example --name=AutoLFADS")
    from stndt_jax.evaluation import external_rates

    data, targets, _ = _recording({**flag, "run": run})
    if targets is None:
        raise UserError("no targets are known for these trials; give a file with --targets")
    _show(flag["name"], external_rates.read(Path(flag["rates"]), data), targets, run)
    return 0


def few_shot(run: Path, flag: Mapping[str, Any]) -> None:
    """``evaluate --shots``: co-bps of held-out neurons read from latents after some trials."""
    wrong = [word for word in flag["shots"] if not word.strip().isdecimal()]
    if wrong:
        raise UserError(f"--shots {wrong[0]} is no number of trials; give some, say 16,32,64")
    from stndt_jax.evaluation import few_shot as fewshot
    from stndt_jax.training import restore

    trained = restore.best_run(restore.models(run, flag["data"], flag["targets"]))
    shots = [int(word) for word in flag["shots"]]
    found = fewshot.score(trained, shots, select=flag["select"])
    from stndt_jax.runs import records

    scores = records.read(run / "scores.json")
    records.write(run / "scores.json", {**scores, "few_shot": found})
    print("\nfew-shot co-smoothing of the best member, decoder fitted on k trials:")
    print(fewshot.table(found))


def _recording(
    flag: Mapping[str, Any],
) -> tuple[SpikeData, dict[str, NDArray] | None, tuple[str, str]]:
    """The recording, its targets and the files of both: as the flags say, else as the run does."""
    from stndt_jax.data import hdf5
    from stndt_jax.runs import ensemble_directory

    path, targets, name, bin_ms = flag["data"], flag["targets"], None, None
    if flag["run"]:
        config = ensemble_directory.read_config(Path(flag["run"]))
        path, targets = path or config.data.path, targets or config.data.targets
        name, bin_ms = config.data.name or None, config.data.bin_ms or None
    if not path:
        raise UserError("--data is missing; name the recording, for example --data=mc_maze.h5")
    data = hdf5.read(path, targets or None, name=name, bin_ms=bin_ms)
    if targets:
        return data, hdf5.read_targets(targets, name), (path, targets)
    known = data.eval.heldout is not None
    return data, hdf5.targets_of(data) if known else None, (path, "")


def _rates(kind: str, data: SpikeData, latents: int) -> dict[str, NDArray]:
    from stndt_jax.evaluation import baselines
    from stndt_jax.evaluation import latent_baselines as room

    if kind == "smoothing":
        sd_ms, alpha = baselines.choose_kernel(data)
        print(f"kernel of {sd_ms:g} ms, chosen on training trials")
        return baselines.smoothing(data, sd_ms=sd_ms, alpha=alpha)
    if kind == "psth":
        return baselines.psth(data)
    if kind == "gpfa":
        return room.gpfa(data, latents=latents)
    return room.lds(data, latents=latents)


def _ndt(out: str, paths: tuple[str, str], settings: list[str]) -> dict[str, NDArray]:
    """Trains the model with its switch to NDT, or goes on training it, and infers rates."""
    if not out:
        raise UserError("--out is missing; the ndt baseline trains into it, say --out=runs/ndt")
    from stndt_jax.config import loading, recording
    from stndt_jax.evaluation import evaluate
    from stndt_jax.training import loop

    if not settings or not settings[0].startswith("--config="):
        settings = ["--config=mc_maze_large", "--config.data.name=", *settings]
    data = [f"--config.data.path={paths[0]}", f"--config.data.targets={paths[1]}"]
    ndt = ["--config.model.spatial=false", "--config.contrast.enabled=false"]
    config = loading.load([*settings, *data, *ndt])
    loop.train(config, recording.read(config), Path(out))
    return evaluate.evaluate(Path(out)).rates


def _show(
    name: str, rates: Mapping[str, NDArray], targets: Mapping[str, NDArray] | None, run: str
) -> None:
    """Scores rates, prints them, alone or beside the run's."""
    if targets is None:
        print("no targets are known for these trials: nothing was scored")
        return
    from stndt_jax.evaluation import external_rates, method_scores

    scores = external_rates.score(rates, targets)
    if run:
        method_scores.add(Path(run), name, scores)
        print(method_scores.table(method_scores.beside(Path(run))))
        print(f"wrote {Path(run) / 'others.json'}")
    else:
        print(method_scores.table({name: scores}))
