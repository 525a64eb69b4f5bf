"""``demo``, ``train``, ``seeds`` and ``runs``."""

from __future__ import annotations

from pathlib import Path

from stndt_jax import files
from stndt_jax.cli import flags as shared
from stndt_jax.cli.flags import Flags, wants_help


def demo(argv: list[str]) -> int:
    """Simulates a recording, trains four models on it, scores and plots the rates.

    usage: stndt demo [--out=DIR] [--seed=0] [--config.KEY=VALUE ...]

    The same command resumes an interrupted demo.

    example: stndt demo --out=demo
    """
    flags = Flags(demo)
    flags.text("out", "DIR", "directory for the recording, the run and the figures", "demo")
    shared.seed(flags, "of the simulation and of the models")
    flags.config(named=False)
    flag, _ = flags.parse(argv)
    flag.refuse_keys("data.path", "data.targets", when="in the demo, which makes its recording")
    files.check_output(Path(flag["out"]), "a directory")
    from stndt_jax.workflows import demo as workflow

    workflow.demo(Path(flag["out"]), seed=flag["seed"], settings=flag.settings)
    return 0


def seeds(argv: list[str]) -> int:
    r"""Trains one configuration with many seeds: mean, spread and intervals.

    usage: stndt seeds --config=NAME|FILE --n=20 --workdir=DIR [--config.KEY=VALUE]

    The seeds, counted from config.seed, train as one population and are validated on
    the same trials. DIR is a run directory like that of stndt train, with the results
    in DIR/seeds.json. The same command resumes.

    example: stndt seeds --config=mc_maze --config.data.path=mc_maze.h5 --n=20 \
                 --workdir=runs/seeds
    """
    flags = Flags(seeds)
    shared.workdir(flags, "run directory", "runs/seeds")
    flags.whole("n", "number of seeds", 20, 1, 2**16)
    flags.config(recording=shared.NEEDED)
    flag, _ = flags.parse(argv)
    flag.refuse_keys("population", when="here; give the number of seeds with --n")
    from stndt_jax.config import loading
    from stndt_jax.runs import recording
    from stndt_jax.workflows import seeds as workflow

    config = workflow.setting(loading.load(flag.settings), flag["n"])
    path = Path(flag["workdir"])
    found = workflow.run(config, recording.read(config), path)
    print(workflow.table(found))
    print(f"wrote {path / workflow.FILE}")
    shared.following("evaluate", str(path))
    return 0


def runs(argv: list[str]) -> int:
    """Lists all runs and ensembles below a directory: settings, progress, scores.

    usage: stndt runs DIR [--sort=COLUMN] [--csv=FILE]

    Columns: path, kind, config, data, epochs, planned, members, validation_co_bps (of
    the best member; of an ensemble, its own), co_bps and the other scores, if it has
    been evaluated, how it ended, date. Numbers are sorted in descending order, text in
    ascending order. Columns without any value are left out, except in the CSV file.

    example: stndt runs runs --sort=validation_co_bps --csv=runs.csv
    """
    flags = Flags(runs)
    flags.text("sort", "COLUMN", "column to sort by", "path")
    flags.text("csv", "FILE", "CSV file to write as well")
    flag, (folder,) = flags.parse(argv, 1)
    if flag["csv"]:
        files.check_output(Path(flag["csv"]), "a table of stndt runs", [folder])
    from stndt_jax.runs import listing

    rows = listing.ordered(listing.table(Path(folder)), flag["sort"])
    print(listing.text(rows))
    if flag["csv"]:
        listing.write_csv(rows, Path(flag["csv"]))
        print(f"wrote {flag['csv']}")
    return 0


def train(argv: list[str]) -> int:
    r"""Trains a population of models (one, by default) and writes a run directory.

    usage: stndt train [--config=NAME|FILE] --workdir=DIR [--config.KEY=VALUE ...]
                       [--extend] [--fresh]
                       [--init=DIR [--neurons=other] [--freeze=PART,...]]

    The same command resumes an interrupted run, as does --workdir alone. A run may be
    interrupted or terminated at any time: it saves first. Exit codes: 2 for a mistake, 3
    if training diverged, 130 and 143 when interrupted and terminated.

    --init starts from the weights of another run (trained or imported), --freeze keeps
    named parts of them, --neurons=other newly initialises the embedder and the decoder.

    --population=auto trains as many members as fit into memory, by what the compiled
    program says it needs; a resumed run keeps its number. On a CPU, where each core has
    a member at a time, time is the limit: give a number there.

    On several hosts, which see the same files, start the same command on each. In a SLURM
    step they find each other; elsewhere set STNDT_COORDINATOR (host:port of process 0),
    STNDT_PROCESSES (their number) and STNDT_PROCESS (the number of this one), or
    STNDT_HOSTS=auto on a TPU slice; STNDT_HOSTS=one trains on this one alone. launch/ has
    a script for each.

    example: stndt train --config=mc_maze --config.data.path=mc_maze.h5 \
                 --workdir=runs/maze --config.optimizer.learning_rate=3e-3 \
                 --config.population=4
    """
    flags = Flags(train)
    shared.workdir(flags, "run directory", "runs/maze")
    flags.switch("extend", "continue a finished run of fewer epochs")
    flags.switch("fresh", "move an existing run aside first")
    flags.text("init", "DIR", "run directory whose weights to start from")
    flags.choice("neurons", "those of --init (default: same if as many)", ["same", "other"], None)
    flags.words("freeze", "PART", "parts that keep the weights of --init, such as layers_0")
    flags.text(
        "population",
        "auto|K",
        "models to train together; auto: as many as fit into memory (default: config.population)",
    )
    flags.text("compile_cache", "DIR", "directory that keeps compiled programs for other runs")
    flags.config(recording=shared.NEEDED.replace("required", "required for a new run"))
    from stndt_jax.config import loading

    if wants_help(argv):
        print(f"{flags.help()}\n\n{loading.documentation()}")
        return 0
    flag, _ = flags.parse(argv)
    if flag["fresh"]:
        flag.refuse("extend", when="with --fresh")
    automatic = flag["population"] == "auto"
    if flag["population"]:
        flag.refuse_keys("population", when="beside --population")
        flag.settings.extend([] if automatic else [f"--config.population={flag['population']}"])
    from stndt_jax import api
    from stndt_jax.parallel import compile_cache, multihost

    if flag["compile_cache"]:
        compile_cache.keep_compiled(Path(flag["compile_cache"]))
    run = api.train(
        loading.read(flag.settings, Path(flag["workdir"])),
        workdir=flag["workdir"],
        init=flag["init"],
        neurons=flag["neurons"] or "",
        freeze=flag["freeze"],
        population="auto" if automatic else None,
        extend=flag["extend"],
        fresh=flag["fresh"],
    )
    if multihost.first():
        shared.following("evaluate", str(run.path))
    return 0
