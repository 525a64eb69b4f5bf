"""``demo``, ``train``, ``seeds``, ``runs`` and ``evaluate``."""

from __future__ import annotations

from pathlib import Path

from absl import flags

from stndt_jax.cli import flags as shared
from stndt_jax.cli.flags import Flags, new_flags, parse, print_help, wants_help
from stndt_jax.errors import UserError


def demo(argv: list[str]) -> int:
    """Simulates a recording, trains four models on it, scores and plots the rates.

    usage: stndt demo [--out=DIR] [--seed=0] [--config.KEY=VALUE ...]

    The same command resumes an interrupted demo.

    example: stndt demo --out=demo
    """
    flags = Flags(demo)
    flags.text("out", "DIR", "directory for the recording, the run and the figures", "demo")
    shared.seed(flags, "of the simulation and of the models")
    flags.config()
    flag, _ = flags.parse(argv)
    flag.refuse_keys("data.path", "data.targets", when="in the demo, which makes its recording")
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
    flags.config()
    flag, _ = flags.parse(argv)
    flag.refuse_keys("population", when="here; give the number of seeds with --n")
    from stndt_jax.config import loading, recording
    from stndt_jax.workflows import seeds as workflow

    config = workflow.setting(loading.load(flag.settings), flag["n"])
    path = Path(flag["workdir"])
    found = workflow.run(config, recording.read(config), path)
    print(workflow.table(found))
    print(f"wrote {path / workflow.FILE}")
    print(f"next: stndt evaluate {path}")
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
    from stndt_jax.runs import listing

    rows = listing.ordered(listing.table(Path(folder)), flag["sort"])
    print(listing.text(rows))
    if flag["csv"]:
        listing.write_csv(rows, Path(flag["csv"]))
        print(f"wrote {flag['csv']}")
    return 0


def train(argv: list[str]) -> int:
    r"""Trains a population of models (one, by default) and leaves a run directory.

    usage: stndt train [--config=NAME|FILE] --workdir=DIR [--config.KEY=VALUE ...]
                       [--extend] [--fresh] [--init=DIR [--neurons=other] [--freeze=PART,...]]

    The same command on the same directory goes on where it was, as does --workdir alone.
    Interrupt or terminate it at any time: it saves first. Exit codes: 2 for a mistake, 3 if
    training diverged, 130 and 143 when interrupted and terminated.

    --init begins with the weights of another run (trained or imported), --freeze keeps named
    parts of them, --neurons=other draws the embedder and the decoder anew.

    --population=auto trains as many members as fit into memory, by the compiled program's own
    account of what it needs; a run that goes on keeps its number. On a CPU members train one
    after another, so that time is the limit: give a number there.

    On several hosts, which see the same files, start the same command on each. In a SLURM step
    they find each other; elsewhere set STNDT_COORDINATOR (host:port of process 0),
    STNDT_PROCESSES (how many) and STNDT_PROCESS (which), or STNDT_HOSTS=auto on a TPU slice;
    STNDT_HOSTS=one trains on this one alone. launch/ has a script for each.

    example: stndt train --config=mc_maze --config.data.path=mc_maze.h5 --workdir=runs/maze \
                 --config.optimizer.learning_rate=3e-3 --config.population=4
    """
    from stndt_jax.config import loading, schema

    fv = new_flags()
    flags.DEFINE_string("workdir", None, "run directory", flag_values=fv)
    flags.DEFINE_bool("extend", False, "go on with a run of fewer epochs", flag_values=fv)
    flags.DEFINE_bool("fresh", False, "set an old run aside, begin anew", flag_values=fv)
    flags.DEFINE_string(
        "config", None, "shipped name, path of a file, or of a run's config.json", flag_values=fv
    )
    flags.DEFINE_string("init", "", "run directory whose weights to begin with", flag_values=fv)
    flags.DEFINE_enum(
        "neurons", "", ["", "same", "other"], "of --init; same if as many", flag_values=fv
    )
    flags.DEFINE_list("freeze", [], "parts not to train, e.g. layers_0,embedder", flag_values=fv)
    flags.DEFINE_string(
        "population", "", "config.population, or auto: as many as fit in memory", flag_values=fv
    )
    flags.DEFINE_string(
        "compile_cache", "", "folder that keeps compiled programs for other runs", flag_values=fv
    )
    if wants_help(argv):
        print_help(fv, train)
        print(f"\nshipped configurations: {', '.join(loading.shipped())}\n\nkeys of --config:")
        for name, kind, meaning in schema.documentation():
            print(f"  {name:34} {kind:6} {meaning}")
        return 0
    rest, settings = loading.split(argv)
    flag, _ = parse(fv, rest, train, 0)
    if not flag["workdir"]:
        raise UserError("--workdir is missing; name a run directory, for example --workdir=runs/a")
    many = flag["population"]
    if many and many != "auto":
        settings.append(f"--config.population={many}")
    loaded = loading.load(settings, Path(flag["workdir"]))
    from stndt_jax.config import recording
    from stndt_jax.parallel import lifts, multihost
    from stndt_jax.runs import directory as place
    from stndt_jax.runs.lock import Lock
    from stndt_jax.training import batches, finetune, memory
    from stndt_jax.training import loop as room

    if flag["compile_cache"]:
        lifts.keep_compiled(Path(flag["compile_cache"]))
    multihost.join()
    path, parts = Path(flag["workdir"]), tuple(flag["freeze"])
    with multihost.together():
        data = recording.read(loaded)
        dims = batches.dims_of(data)
        schema.check_dims(loaded, dims)
        if flag["fresh"] and multihost.first():
            # Nobody's run is moved while somebody is at work in it.
            place.make(path)
            with Lock(path):
                pass
            if old := place.set_aside(path):
                print(f"the old run is in {old} now")
    if many == "auto":
        loaded = memory.filled(loaded, data, path)
    initialisation = finetune.initialisation(
        path, loaded, dims, init=flag["init"], neurons=flag["neurons"], parts=parts
    )
    room.train(loaded, data, path, extend=flag["extend"], initialisation=initialisation)
    if multihost.first():
        print(f"next: stndt evaluate {fv['workdir'].value}")
    return 0


def evaluate(argv: list[str]) -> int:
    """Infers rates of all trials, scores them, writes scores.json and submission.h5.

    usage: stndt evaluate DIR [--targets=FILE] [--data=FILE] [--select=cobps|loss|last]

    or, rates of any other method: stndt evaluate [DIR] --rates=FILE --name=NAME

    Scores need nlb_tools, and targets unless the recording itself holds them. With --rates the
    file is in the submission format, lfads-torch's, or plain arrays; without DIR give --data.

    example: stndt evaluate runs/maze --targets=mc_maze_target.h5
    """
    fv = new_flags()
    flags.DEFINE_string("targets", "", "target file to score against", flag_values=fv)
    flags.DEFINE_string("data", "", "the recording, if it has moved", flag_values=fv)
    flags.DEFINE_enum(
        "select", "cobps", ["cobps", "loss", "last"], "weights of each member", flag_values=fv
    )
    flags.DEFINE_string("rates", "", "score this file's rates instead", flag_values=fv)
    flags.DEFINE_string("name", "", "what to call the method of --rates", flag_values=fv)
    flags.DEFINE_list("shots", [], "few-shot co-bps after these many trials", flag_values=fv)
    flag, paths = parse(fv, argv, evaluate, 0, 1)
    from stndt_jax.cli import baselines

    if flag["rates"]:
        return baselines.score_file(paths[0] if paths else "", flag)
    _, (path,) = parse(fv, argv, evaluate, 1)
    from stndt_jax.evaluation import evaluate as room
    from stndt_jax.evaluation import method_scores

    result = room.evaluate(
        Path(path),
        data_path=flag["data"],
        targets_path=flag["targets"],
        select=flag["select"],
    )
    print(room.table(result.scores))
    if flag["shots"]:
        baselines.few_shot(Path(path), flag)
    if method_scores.read(Path(path)):
        print("\n" + method_scores.table(method_scores.beside(Path(path))))
    print(f"wrote {Path(path) / 'scores.json'} and {Path(path) / 'submission.h5'}")
    return 0
