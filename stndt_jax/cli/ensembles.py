"""Many models: ``ensemble``, ``retrain``, ``seeds`` and ``runs``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import flags

from stndt_jax.cli.flags import new_flags, parse
from stndt_jax.errors import UserError

MOST_FOLDERS = 10_000


def ensemble(argv: list[str]) -> int:
    """Chooses models among trained ones by the validation co-bps of their mean rate.

    usage: stndt ensemble DIR [DIR ...] --out=OUT [--select=top|greedy|all] [--max=50] [--fresh]

    DIR is a run, an ensemble, or a folder with runs below it. All members are compared on the
    trials that selected their weights, which must be the same ones for all; no other trial is
    looked at. top takes the best n with the n whose mean rate is best; greedy adds members one by
    one, some of them several times, and is never below top on these trials; all takes every member
    and looks at no trial's counts to do so.

    OUT holds copies of the chosen members and is evaluated and exported like a run. The curve of
    score against size stands in OUT/ensemble.json and OUT/figures.

    example: stndt ensemble runs/search --out=runs/best --select=greedy
    """
    fv = new_flags()
    flags.DEFINE_string("out", "", "folder to write", flag_values=fv)
    flags.DEFINE_enum(
        "select", "top", ["top", "greedy", "all"], "how members are chosen", flag_values=fv
    )
    flags.DEFINE_integer("max", 50, "members at most", lower_bound=1, flag_values=fv)
    flags.DEFINE_integer("seed", 0, "of the random sets", 0, 2**31 - 1, flag_values=fv)
    flags.DEFINE_string("data", "", "the recording, if it has moved", flag_values=fv)
    flags.DEFINE_bool("fresh", False, "set an old ensemble aside", flag_values=fv)
    flag, folders = parse(fv, argv, ensemble, 1, MOST_FOLDERS)
    if not flag["out"]:
        raise UserError("--out is missing; name a folder to write, for example --out=runs/best")
    from stndt_jax.ensembles import build as room
    from stndt_jax.runs import directory, ensemble_directory

    out = Path(flag["out"])
    if flag["fresh"] and ensemble_directory.is_ensemble(out) and (old := directory.set_aside(out)):
        print(f"the old ensemble is in {old} now")
    found = room.build(
        [Path(folder) for folder in folders],
        out,
        select=flag["select"],
        most=flag["max"],
        seed=flag["seed"],
        data_path=flag["data"],
        say=print,
    )
    print(room.table(found))
    drawn = _draw(out, found)
    print("wrote " + ", ".join(map(str, [out / ensemble_directory.FILE, *drawn])))
    print(f"next: stndt evaluate {out}")
    return 0


def _draw(out: Path, found: dict[str, Any]) -> list[Path]:
    if found["curve"] is None:
        return []
    try:
        from stndt_jax.plotting import ensemble as plots_many
        from stndt_jax.plotting import style
    except ModuleNotFoundError:
        print("no figure: matplotlib is missing; run: pip install 'stndt_jax[plots]'")
        return []
    chosen = (found["size"], found["validation_co_bps"])
    each = [row["validation_co_bps"] for row in found["candidates"]]
    fig = plots_many.ensemble_curve(found["curve"], chosen, each)
    folder = out / "figures"
    folder.mkdir(exist_ok=True)
    return style.save(fig, folder / "ensemble_curve.png", pdf=True)


def retrain(argv: list[str]) -> int:
    """Trains chosen models again on all trials of another recording: the test phase's.

    usage: stndt retrain DIR --data=FILE --out=OUT

    DIR is an ensemble or a run, FILE a recording of the same neurons and bins. Every model begins
    from scratch with its old settings and trains for as many epochs as gave its best weights; no
    trial is kept back to select. OUT is an ensemble with the old shares of the mean rate, and is
    evaluated like any other. The same command goes on where it was.

    example: stndt retrain runs/best --data=test.h5 --out=runs/test
    """
    fv = new_flags()
    flags.DEFINE_string("data", "", "recording to train on", flag_values=fv)
    flags.DEFINE_string("out", "", "folder to write", flag_values=fv)
    flags.DEFINE_string("old_data", "", "DIR's recording, if it has moved", flag_values=fv)
    flag, (folder,) = parse(fv, argv, retrain, 1)
    for needed, example in (("data", "test.h5"), ("out", "runs/test")):
        if not flag[needed]:
            raise UserError(f"--{needed} is missing, for example --{needed}={example}")
    from stndt_jax.ensembles import retrain as room

    out = Path(flag["out"])
    about = room.retrain(Path(folder), flag["data"], out, old_data=flag["old_data"], say=print)
    print(f"{len(about['members'])} models trained again; wrote {out}")
    print(f"next: stndt evaluate {out}")
    return 0


def seeds(argv: list[str]) -> int:
    """Trains one setting with many seeds as one population: mean, spread, intervals.

    usage: stndt seeds --config=NAME|FILE --n=20 --workdir=DIR [--config.KEY=VALUE ...]

    Seeds count from config.seed. The trials that select are the same for all. The run directory
    is like that of stndt train, and the same command goes on where it was. What comes of it is
    printed and written to DIR/seeds.json.

    example: stndt seeds --config=mc_maze --config.data.path=mc_maze.h5 --n=20 --workdir=runs/seeds
    """
    from stndt_jax.config import loading, recording

    fv = new_flags()
    flags.DEFINE_string("workdir", "", "run directory", flag_values=fv)
    flags.DEFINE_integer("n", 20, "how many seeds", 1, 2**16, flag_values=fv)
    flags.DEFINE_string("config", "", "shipped name or path of a file", flag_values=fv)
    rest, settings = loading.split(argv)
    flag, _ = parse(fv, rest, seeds, 0)
    if not flag["workdir"]:
        raise UserError("--workdir is missing; name a run directory, for example --workdir=runs/s")
    from stndt_jax.workflows import seeds as room

    config = room.setting(loading.load(settings), flag["n"])
    path = Path(flag["workdir"])
    found = room.run(config, recording.read(config), path)
    print(room.table(found))
    print(f"wrote {path / room.FILE}")
    print(f"next: stndt evaluate {path}")
    return 0


def runs(argv: list[str]) -> int:
    """Lists all runs and ensembles below a folder: settings, progress, scores, how they ended.

    usage: stndt runs DIR [--sort=COLUMN] [--csv=FILE]

    Columns: path, kind, config, data, epochs, planned, members, validation_co_bps (of the best
    member; of an ensemble, its own), co_bps and the other scores if evaluated, how, date.
    Numbers are sorted from the highest, texts from the first.

    example: stndt runs runs --sort=validation_co_bps --csv=runs.csv
    """
    fv = new_flags()
    flags.DEFINE_string("sort", "path", "column to sort by", flag_values=fv)
    flags.DEFINE_string("csv", "", "file to write as well", flag_values=fv)
    flag, (folder,) = parse(fv, argv, runs, 1)
    from stndt_jax.runs import listing as room

    rows = room.ordered(room.table(Path(folder)), flag["sort"])
    print(room.text(rows))
    if flag["csv"]:
        room.write_csv(rows, Path(flag["csv"]))
        print(f"wrote {flag['csv']}")
    return 0
