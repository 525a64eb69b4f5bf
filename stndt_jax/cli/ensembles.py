"""``ensemble``, ``retrain`` and ``cut``."""

from __future__ import annotations

from pathlib import Path

from stndt_jax import files
from stndt_jax.cli import flags as shared
from stndt_jax.cli.flags import Flags
from stndt_jax.console.lines import counted
from stndt_jax.errors import UserError, install


def ensemble(argv: list[str]) -> int:
    """Selects trained models by the validation co-bps of their mean rate.

    usage: stndt ensemble DIR [DIR ...] --out=OUT [--select=top|greedy|all]
                          [--max=50] [--fresh]

    DIR is a run, an ensemble, or a directory with runs below it. All members are
    compared on the trials that selected their weights, which must be the same for all.
    top takes the best n members, with the n whose mean rate is best. greedy adds one
    member after the other, some of them several times, and is never below top on these
    trials. all takes every member, and uses no counts to do so.

    OUT holds copies of the selected members and is evaluated and exported like a run;
    OUT/ensemble.json and OUT/figures show the score against the number of members.

    example: stndt ensemble runs/search --out=runs/best --select=greedy
    """
    flags = Flags(ensemble)
    shared.out(flags, "DIR", "ensemble directory to write", required="runs/best")
    flags.choice("select", "how members are selected", ["top", "greedy", "all"], "top")
    flags.whole("max", "members at most", 50, 1)
    shared.seed(flags, "of the random sets that the curve is compared with")
    shared.data(flags)
    flags.switch("fresh", "move an existing ensemble aside first")
    flag, folders = flags.parse(argv, 1, shared.MOST_PATHS)
    if flag["select"] == "all":
        flag.refuse("max", when="with --select=all")
    from stndt_jax import api
    from stndt_jax.ensembles import build
    from stndt_jax.runs import ensemble_directory

    out = Path(flag["out"])
    files.make_parent(out)
    found = api.build_ensemble(
        folders,
        out,
        select=flag["select"],
        most=flag["max"],
        seed=flag["seed"],
        data=flag["data"],
        fresh=flag["fresh"],
    ).ensemble
    print(build.table(found))
    drawn: list[Path] = []
    if found["curve"] is not None:
        try:
            from stndt_jax.plotting import ensemble as curve
        except ModuleNotFoundError:
            print(f"no figure: matplotlib is missing; {install('plots')}")
        else:
            drawn = curve.save(found, out / "figures")
    shared.wrote([out / ensemble_directory.FILE, *drawn])
    shared.following("evaluate", str(out))
    return 0


def retrain(argv: list[str]) -> int:
    """Trains selected models again on all trials, for the test phase.

    usage: stndt retrain DIR --data=FILE --out=OUT

    DIR is an ensemble or a run, FILE a recording of the same neurons and bins. Every
    model trains from scratch with its old settings, for as many epochs as gave its best
    weights; no trial is kept back for validation. OUT is an ensemble with the old
    weights of its members. The same command resumes.

    example: stndt retrain runs/best --data=test.h5 --out=runs/test
    """
    flags = Flags(retrain)
    flags.text("data", "FILE", "HDF5 file of the recording to train on", required="test.h5")
    shared.out(flags, "DIR", "ensemble directory to write", required="runs/test")
    flags.text("old_data", "FILE", "HDF5 file of DIR's recording, if it has moved")
    flag, (folder,) = flags.parse(argv, 1)
    from stndt_jax.ensembles import retrain as retraining

    out = Path(flag["out"])
    files.make_parent(out)
    about = retraining.retrain(
        Path(folder), flag["data"], out, old_data=flag["old_data"], say=print
    )
    print(f"{counted(len(about['members']), 'model')} trained again; wrote {out}")
    shared.following("evaluate", str(out))
    return 0


def cut(argv: list[str]) -> int:
    """Writes selected members of a run as a run of their own; the run stays as it is.

    usage: stndt cut DIR --members=K,... --out=DIR

    The new run is evaluated and exported like any other. Trained further, its members
    continue as they would have; that command repeats the settings of the new
    config.json.

    example: stndt cut runs/maze --members=0,3 --out=runs/maze_best
    """
    flags = Flags(cut)
    flags.words("members", "K", "numbers of the members, from 0", required="0,3")
    shared.out(flags, "DIR", "run directory to write", required="runs/maze_best")
    flag, (path,) = flags.parse(argv, 1)
    if not all(k.isdecimal() and len(k) < 10 for k in flag["members"]):
        raise UserError(
            f"--members={','.join(flag['members'])}: give numbers, for example --members=0,3"
        )
    from stndt_jax.ensembles import extract

    files.make_parent(Path(flag["out"]))
    members = [int(k) for k in flag["members"]]
    extract.cut(Path(path), members, Path(flag["out"]))
    print(f"wrote {flag['out']}: {len(members)} of the members of {path}")
    shared.following("evaluate", flag["out"])
    return 0
