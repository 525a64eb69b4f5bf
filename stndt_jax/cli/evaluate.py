"""``evaluate``, ``baseline`` and ``check-submission``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stndt_jax import files
from stndt_jax.cli import flags as shared
from stndt_jax.cli.flags import Flags, Values
from stndt_jax.errors import UserError

if TYPE_CHECKING:
    from stndt_jax.run import Run
    from stndt_jax.training.restore import TrainedRun


def evaluate(argv: list[str]) -> int:
    """Infers rates, scores them, and writes scores.json and submission.h5.

    usage: stndt evaluate DIR [--targets=FILE|--test] [--data=FILE] [--shots=K,...]
                          [--out=DIR]
       or: stndt evaluate [DIR] --rates=FILE --name=NAME [--targets=FILE]

    Scores need nlb_tools, and targets unless the recording itself has them.

    Scores on other data than those of the run do not replace its own: they are written
    to another directory, that of --out.

    --test scores the trials of the benchmark's test split, with the file that stndt
    download nlb-test-targets has put beside the recording; published scores are shown
    too.

    --rates scores the rates of another method instead, from a file in the submission
    format, in that of lfads-torch, or of plain arrays. They are compared with the scores
    of DIR; without DIR give --data.

    example: stndt evaluate runs/maze --targets=mc_maze_target.h5
    example: stndt evaluate runs/monday --data=tuesday.h5 --out=scores/tuesday
    """
    flags = Flags(evaluate)
    shared.targets(flags)
    shared.data(flags)
    shared.select(flags)
    flags.words("shots", "K", "numbers of trials for few-shot co-bps, such as 16,32,64")
    shared.out(flags, "DIR", "directory to write (default: that of the run)")
    flags.text("rates", "FILE", "file whose rates to score instead")
    flags.switch("test", "score the benchmark's test trials")
    flags.text("name", "NAME", "name of the method of --rates (required with --rates)")
    flag, paths = flags.parse(argv, 0, 1)
    if flag["rates"]:
        flag.refuse("select", "shots", "test", "out", when="with --rates")
        return _score_file(paths[0] if paths else "", flag)
    flag.refuse("name", when="without --rates")
    _, (path,) = flags.parse(argv, 1)
    wrong = [word for word in flag["shots"] if not word.strip().isdecimal()]
    if wrong:
        raise UserError(f"--shots={wrong[0]} is no number of trials; for example --shots=16,32")
    from stndt_jax.evaluation import comparison, few_shot, method_scores
    from stndt_jax.evaluation import evaluate as evaluation
    from stndt_jax.run import Run
    from stndt_jax.training import restore

    run = Run(Path(path), flag["data"], flag["targets"])
    where = Path(flag["out"] or path)
    if flag["out"]:
        files.check_output(where, "a directory of scores", [path, flag["data"], flag["targets"]])
    if flag["test"]:
        flag.refuse("targets", when="with --test")
        run = Run(Path(path), flag["data"], _test_targets(run))
    try:
        scores = run.evaluate(select=flag["select"], out=flag["out"])
        print(evaluation.table(scores))
    except evaluation.NotWritten as error:
        print(evaluation.table(error.scores))
        raise
    if "ensemble" not in scores and (hint := _beside(run.data_path or run.config.data.path)):
        print(hint)
    if line := _unfinished(run.models[0].trained):
        print(line)
    if shots := [int(word) for word in flag["shots"]]:
        found = few_shot.score(restore.best_run(run.models), shots, select=flag["select"])
        print("\nfew-shot co-smoothing of the best member, decoder fitted on k trials:")
        print(few_shot.table(found))
        few_shot.keep(where, found)
    if method_scores.read(where):
        print("\n" + method_scores.table(method_scores.beside(where)))
    if verdict := comparison.verdict(where, scores):
        print(verdict)
    return shared.wrote([where / "scores.json", where / "submission.h5"])


def _test_targets(run: Run) -> str:
    """The benchmark's test targets, which are beside the recording of a run."""
    from stndt_jax.data import benchmark_targets

    path = Path(run.data_path or run.config.data.path).parent / benchmark_targets.NAME
    if not benchmark_targets.is_test_targets(path):
        what = "is another file" if path.exists() else "does not exist"
        raise UserError(
            f"--test: {path} {what}; run: stndt download nlb-test-targets --out={path.parent}"
        )
    return str(path)


def _beside(data: str) -> str:
    """Names the target file beside a recording; empty if there is none."""
    from stndt_jax.data import hdf5

    found = hdf5.targets_beside(data) if data else None
    return f"the file beside the recording may have them: --targets={found}" if found else ""


def _unfinished(trained: TrainedRun) -> str:
    """A line about a run that has not been trained to its end; empty for others."""
    from stndt_jax.runs import directory, ensemble_directory, lock

    path, epochs = trained.path, trained.config.train.epochs
    if (path / "imported.json").exists() or ensemble_directory.is_ensemble(path.parent.parent):
        return ""
    sessions = directory.read_run(path)["sessions"]
    how = str(sessions[-1].get("how", "")) if sessions else "finished"
    if trained.epoch >= epochs or how == "finished":
        return ""
    advice = f"continue with stndt train --workdir={path}"
    if holder := lock.holder(path):
        advice = f"{holder} is still training"
    elif "diverged" in how:
        advice = how
    return f"trained for {trained.epoch:g} of {epochs} epochs: {advice}"


def _score_file(run: str, flag: Values) -> int:
    """Scores the rates in a file, beside those of a run if one is given."""
    if not flag["name"]:
        raise UserError("--name is missing; name the method, for example --name=AutoLFADS")
    from stndt_jax.evaluation import external_rates, method_scores

    data, targets, paths = method_scores.recording(flag["data"], flag["targets"], run)
    if targets is None:
        hint = _beside(paths[0]) or "give a file with --targets"
        raise UserError(f"no targets are known for these trials; {hint}")
    rates = external_rates.read(Path(flag["rates"]), data)
    method_scores.compare(flag["name"], rates, targets, run, say=shared.say)
    return 0


def baseline(argv: list[str]) -> int:
    """Infers rates with a simple method and scores them like a model's.

    usage: stndt baseline smoothing|psth|ndt|gpfa|lds --data=FILE [--targets=FILE]
                          [--run=DIR] [flags]

      smoothing  Gaussian kernel, and Poisson regression to held-out neurons
      psth       mean of each trial's condition, which no model knows
      ndt        the model without attention over neurons, trained into --out;
                 takes --config flags
      gpfa, lds  latent states, from the extras gpfa (elephant) and lds (dynamax)

    example: stndt baseline smoothing --data=mc_maze.h5 --targets=mc_maze_target.h5
    """
    flags = Flags(baseline)
    flags.text("data", "FILE", "HDF5 file of the recording (required without --run)")
    shared.targets(flags, "those of --run or in the recording")
    flags.text("run", "DIR", "run directory whose scores are shown beside")
    shared.out(
        flags, "FILE|DIR", "submission file to write; of ndt, run directory (required for ndt)"
    )
    flags.whole("latents", "dimensions of the latent state of gpfa and lds", 12)
    flags.config("mc_maze_large:paper; of ndt only")
    flag, (kind,) = flags.parse(argv, 1)
    from stndt_jax.evaluation import method_scores, submission
    from stndt_jax.workflows import baseline as workflow

    workflow.check_kind(kind)
    if kind not in ("gpfa", "lds"):
        flag.refuse("latents", when=f"on the {kind} baseline")
    if kind != "ndt" and flag.settings:
        raise UserError(f"the {kind} baseline takes no --config flags; only ndt does")
    if kind == "ndt" and not flag["out"]:
        raise UserError("--out is missing; ndt trains into it, for example --out=runs/ndt")
    flag.refuse_keys(*workflow.NDT_KEYS, when="on the ndt baseline, which sets it")
    if kind != "ndt" and flag["out"]:
        inputs = [flag["data"], flag["targets"]]
        files.check_output(Path(flag["out"]), "a submission file", inputs)
    data, targets, paths = method_scores.recording(flag["data"], flag["targets"], flag["run"])
    if kind == "ndt":
        rates = workflow.train_ndt(Path(flag["out"]), paths, flag.settings)
    else:
        rates = workflow.infer(kind, data, latents=flag["latents"])
    name = "psth (knows the condition)" if kind == "psth" else kind
    method_scores.compare(name, rates, targets, flag["run"], say=shared.say)
    if kind != "ndt" and flag["out"]:
        tables = submission.tables_of(data)
        submission.write(flag["out"], data.name, rates, bin_ms=data.bin_ms, tables=tables)
        print(f"wrote {flag['out']}")
    return 0


def check_submission(argv: list[str]) -> int:
    """Checks a submission file: group, keys, shapes, values and unit of the rates.

    usage: stndt check-submission FILE --data=FILE [--name=DATASET]

    example: stndt check-submission runs/maze/submission.h5 --data=mc_maze_test.h5
    """
    flags = Flags(check_submission)
    shared.data(flags, required=True)
    flags.text("name", "DATASET", "data set, if the recording's file has another name")
    flag, (path,) = flags.parse(argv, 1)
    from stndt_jax.data import hdf5
    from stndt_jax.evaluation import submission

    data = hdf5.read(flag["data"], name=flag["name"] or None)
    group = hdf5.group_name(data.name, data.bin_ms)
    rates = submission.read(path, group)
    submission.check(rates, data)
    submission.check_units(rates, data)
    print(
        f"{path}: group {group} fits {flag['data']}: {len(rates)} keys, all rates in counts per bin"
    )
    return 0
