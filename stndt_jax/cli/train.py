"""From nothing to scores: ``demo``, ``synth``, ``train``, ``evaluate``."""

from __future__ import annotations

from pathlib import Path

from absl import flags

from stndt_jax.cli.flags import new_flags, parse, print_help, wants_help
from stndt_jax.errors import UserError


def demo(argv: list[str]) -> int:
    """Makes a reach data set, trains a small population and shows what it inferred.

    usage: stndt demo [--out=DIR] [--seed=0] [--config.KEY=VALUE ...]

    example: stndt demo --out=demo
    """
    fv = new_flags()
    flags.DEFINE_string("out", "demo", "folder for data, run and figures", flag_values=fv)
    flags.DEFINE_integer("seed", 0, "of the data and of the models", 0, 2**31 - 1, flag_values=fv)
    from stndt_jax.config import loading

    rest, settings = loading.split(argv)
    flag, _ = parse(fv, rest, demo, 0)
    from stndt_jax.workflows import demo as room

    room.demo(Path(flag["out"]), seed=flag["seed"], settings=settings)
    return 0


def synth(argv: list[str]) -> int:
    """Writes a synthetic data set and, beside it, its target file with the true rates.

    usage: stndt synth lorenz|rnn|reach --out=FILE [--seed=0]

    example: stndt synth reach --out=reach.h5     (and reach_target.h5)
    """
    fv = new_flags()
    flags.DEFINE_string("out", None, "HDF5 file to write", flag_values=fv)
    flags.DEFINE_integer("seed", 0, "of the draw", 0, flag_values=fv)
    flag, (kind,) = parse(fv, argv, synth, 1)
    if not flag["out"]:
        raise UserError("--out is missing; name the file to write, for example --out=reach.h5")
    from stndt_jax.data import hdf5, synthetic

    out = Path(flag["out"])
    if not out.name:
        raise UserError(f"--out={out} is a folder; name the file to write, for example reach.h5")
    targets = out.with_name(f"{out.stem}_target{out.suffix}")
    data = synthetic.make(kind, seed=flag["seed"])
    hdf5.write(data, out)
    hdf5.write_targets(data, targets)
    print(
        f"{out} and {targets}: {len(data.train)} training and {len(data.eval)} evaluated trials, "
        f"{data.bins_observed} + {data.bins_forward} bins of {data.bin_ms:g} ms, "
        f"{data.heldin} + {data.heldout} neurons"
    )
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
