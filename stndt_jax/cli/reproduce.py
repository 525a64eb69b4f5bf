"""From the benchmark's files to a report: ``reproduce``."""

from __future__ import annotations

import re
from pathlib import Path

from absl import flags

from stndt_jax.cli.flags import new_flags, parse
from stndt_jax.errors import UserError


def reproduce(argv: list[str]) -> int:
    """Prepares, searches, chooses an ensemble, scores, retrains for the test phase and reports.

    usage: stndt reproduce NAME --nwb=DIR --workdir=DIR [--budget=small|paper] [--trials=N]
                           [--config.KEY=VALUE ...]

    NAME is a data set of the benchmark, DIR holds its NWB files. The budget paper is 120 trials
    of the data set's own configuration; small is 8 trials of one layer and a short schedule, which
    shows that the way works. --config.KEY sets what the search then leaves alone.

    The same command goes on where it was, whatever ended it. DIR/report.md sets the scores beside
    the published ones and says what may be compared; DIR/test/submission.h5 is what the benchmark
    takes for the test phase.

    example: stndt reproduce mc_maze --nwb=data/nwb --workdir=runs/paper --budget=paper
    """
    fv = new_flags()
    flags.DEFINE_string("nwb", "", "folder of the NWB files, or one above it", flag_values=fv)
    flags.DEFINE_string("workdir", "", "folder for everything", flag_values=fv)
    flags.DEFINE_enum("budget", "small", ["small", "paper"], "how much to spend", flag_values=fv)
    flags.DEFINE_integer("trials", 0, "of the search; 0: the budget's", 0, flag_values=fv)
    flags.DEFINE_string("population", "", "trials at a time; the budget's", flag_values=fv)
    from stndt_jax.config import loading

    rest, settings = loading.split(argv)
    flag, (name,) = parse(fv, rest, reproduce, 1)
    for needed in ("nwb", "workdir"):
        if not flag[needed]:
            raise UserError(f"--{needed} is missing; --help shows an example")
    if bad := [word for word in settings if re.match(r"--config(=|\.data\.)", word)]:
        raise UserError(f"{bad[0]} cannot be set: configuration and data are those of {name}")
    from stndt_jax.data import nlb

    nlb.check_name(name)
    try:
        from stndt_jax.workflows import reproduce as room
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "optuna":
            raise
        raise UserError(
            "stndt reproduce needs Optuna, which is not here; pip install 'stndt_jax[search]'"
        ) from error
    budget = room.BUDGETS[flag["budget"]]
    task = room.Task(
        name=name,
        nwb=Path(flag["nwb"]),
        folder=Path(flag["workdir"]),
        budget=flag["budget"],
        trials=flag["trials"] or budget.trials,
        population=flag["population"] or budget.population,
        settings=tuple(settings),
    )
    report = room.run(task)
    print(report.read_text())
    print(f"wrote {report}")
    return 0
