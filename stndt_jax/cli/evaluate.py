"""``baseline`` and ``check-submission``."""

from __future__ import annotations

from pathlib import Path

from stndt_jax.cli import flags as shared
from stndt_jax.cli.flags import Flags
from stndt_jax.errors import UserError


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
    flags.text("data", "FILE", "HDF5 file of the recording; by default that of --run")
    shared.targets(flags)
    flags.text("run", "DIR", "run directory whose scores are shown beside")
    shared.out(flags, "FILE|DIR", "submission file to write; of ndt, run directory")
    flags.whole("latents", "dimensions of the latent state of gpfa and lds", 12)
    flags.config()
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
    data, targets, files = method_scores.recording(flag["data"], flag["targets"], flag["run"])
    if kind == "ndt":
        rates = workflow.train_ndt(Path(flag["out"]), files, flag.settings)
    else:
        rates = workflow.infer(kind, data, latents=flag["latents"])
        if flag["out"]:
            submission.write(flag["out"], data.name, rates, bin_ms=data.bin_ms)
            print(f"wrote {flag['out']}")
    name = "psth (knows the condition)" if kind == "psth" else kind
    print(method_scores.compare(name, rates, targets, flag["run"]))
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
