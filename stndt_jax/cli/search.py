"""``search`` and ``reproduce``."""

from __future__ import annotations

from pathlib import Path

from stndt_jax.cli import flags as shared
from stndt_jax.cli.flags import Flags


def search(argv: list[str]) -> int:
    r"""Searches for good hyperparameters, training a population of trials at a time.

    usage: stndt search [--config=NAME|FILE] --workdir=DIR [--trials=120]
                        [--population=auto|K] [--config.KEY=VALUE ...] [flags]

    The function get_search_space() in the configuration's file lists the hyperparameters and their
    ranges; a key set with --config.KEY is not searched. The score is the validation co-bps. The
    first trial has the configuration's own values. Trials that train together share what changes
    the compiled program (layers, heads, width, batch); all other hyperparameters are their own.

    The same command resumes the search. Several of them, also on several machines, may work in one
    directory at once: --trials counts the trials of all. If one dies, another resumes its trials.
    With --storage=URL, directories on machines without a common file system share a study.

    --pruner=median stops trials below the median of the complete trials at the same epoch,
    --pruner=halving the worse half after an eighth, a quarter and half of the epochs.

    --executor=ray is the way to use several machines: it samples trials in this process and trains
    them on a Ray cluster, one population per GPU: on the cluster at --ray-address, or on one
    started on this machine. DIR and the recording must have the same path on all machines. Actors
    and machines may die; if this process does, the same command continues the search.

    Writes search.json, trials.csv, figures, and the runs below DIR/trials.

    example: stndt search --config=mc_maze_large --config.data.path=val.h5 \
                 --config.data.targets=val_target.h5 --workdir=runs/search
    """
    flags = Flags(search)
    shared.workdir(flags, "search directory", "runs/search")
    flags.whole("trials", "trials to finish, by all workers together", 120, 1)
    flags.text("population", "auto|K", "trials that train together", "auto")
    flags.choice("sampler", "how trials are sampled", ["tpe", "random", "qmc"], "tpe")
    flags.choice("pruner", "which trials to stop early", ["none", "median", "halving"], "none")
    flags.text("storage", "URL", "SQLAlchemy URL of a database (default: a file in DIR)")
    flags.text("study", "NAME", "name of the study in the storage", "stndt")
    flags.choice("executor", "where trials train", ["local", "ray"], "local")
    flags.text("ray_address", "HOST:PORT", "a running Ray cluster (default: one started here)")
    flags.whole(
        "workers", "of the Ray cluster (default: 0, one per GPU, or one without GPUs)", 0, 0
    )
    shared.quiet(flags, "one line per population, nothing of the training")
    flags.config(recording=shared.NEEDED)
    flag, _ = flags.parse(argv)
    flag.refuse_keys("population", when="in a search; give --population")
    if flag["executor"] != "ray":
        flag.refuse("ray_address", "workers", when="without --executor=ray")
    from stndt_jax.console import progress
    from stndt_jax.search import results, run

    if flag["quiet"]:
        progress.off()
    folder = Path(flag["workdir"])
    found = run.search(
        folder,
        flag.settings,
        trials=flag["trials"],
        population=flag["population"],
        sampler=flag["sampler"],
        pruner=flag["pruner"],
        storage=flag["storage"],
        name=flag["study"],
        quiet=flag["quiet"],
        executor=flag["executor"],
        ray_address=flag["ray_address"],
        workers=flag["workers"],
        say=shared.say,
    )
    print(results.text(folder, found))
    shared.following("ensemble", str(folder), f"--out={folder / 'ensemble'}")
    return 0


def tune(argv: list[str]) -> int:
    """Refines the setting of --config=auto by a small search on the training trials.

    usage: stndt tune FILE --out=DIR [--trials=12] [--seed=0] [--config.KEY=VALUE]

    FILE is a recording. A quarter of its training trials is held back to compare settings; the
    evaluated trials are not used. DIR/config.json is the setting for all training
    trials: that of the rules, unless the search finds a better one. The same command resumes.

    example: stndt tune data/day1.h5 --out=runs/tuned
             stndt train --config=runs/tuned/config.json --workdir=runs/day1
    """
    flags = Flags(tune)
    shared.out(flags, "DIR", "directory for the search and config.json", required="runs/tuned")
    flags.whole("trials", "settings to try", 12, 1)
    shared.seed(flags, "of the trials held back and of the models")
    flags.config()
    flag, (path,) = flags.parse(argv, 1)
    flag.refuse_keys("data.path", "data.targets", "population", "seed", when="in stndt tune")
    from stndt_jax.workflows import tune as workflow

    out = workflow.tune(
        Path(path),
        Path(flag["out"]),
        trials=flag["trials"],
        seed=flag["seed"],
        settings=flag.settings,
        say=shared.say,
    )
    shared.following("train", f"--config={out}", f"--workdir={Path(flag['out']) / 'run'}")
    return 0


def reproduce(argv: list[str]) -> int:
    r"""Prepares a data set of the benchmark, searches, builds an ensemble, reports.

    usage: stndt reproduce NAME --nwb=DIR --workdir=DIR [--budget=small|paper]
                           [--trials=N] [--config.KEY=VALUE ...]

    NAME is a data set of the Neural Latents Benchmark, DIR holds its NWB files. --budget=paper is
    120 trials of the data set's own configuration; --budget=small is 8 trials of a small model
    with a short schedule, to try the workflow. A key set with --config.KEY is not searched.

    The same command resumes where it stopped. DIR/report.md compares the scores with the published
    ones; DIR/test/submission.h5 is the submission for the test phase.

    example: stndt reproduce mc_maze --nwb=data/nwb --workdir=runs/paper \
                 --budget=paper
    """
    flags = Flags(reproduce)
    flags.text("nwb", "DIR", "directory of the NWB files, or one above it", required="data/nwb")
    shared.workdir(flags, "directory for everything that is written", "runs/paper")
    flags.choice("budget", "size of the search and of the models", ["small", "paper"], "small")
    flags.whole("trials", "of the search (default: 8, or 120 with --budget=paper)", 0, 0)
    flags.text("population", "auto|K", "trials that train together (default: the budget's)")
    flags.config(named=False)
    flag, (name,) = flags.parse(argv, 1)
    flag.refuse_keys("population", when="in a search; give --population")
    from stndt_jax.workflows import reproduce as workflow

    task = workflow.task(
        name,
        Path(flag["nwb"]),
        Path(flag["workdir"]),
        budget=flag["budget"],
        trials=flag["trials"],
        population=flag["population"],
        settings=flag.settings,
    )
    report = workflow.run(task)
    print(report.read_text())
    print(f"wrote {report}")
    return 0
