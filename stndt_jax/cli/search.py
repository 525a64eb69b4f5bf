"""From one configuration to its best settings: ``search``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from absl import flags

from stndt_jax.cli.flags import new_flags, parse, print_help, wants_help
from stndt_jax.errors import UserError


def search(argv: list[str]) -> int:
    r"""Searches for good hyperparameters, a population of trials at a time.

    usage: stndt search --config=NAME|FILE --workdir=DIR [--trials=120] [--population=auto|K]
                        [--config.KEY=VALUE ...] [--sampler=tpe|random|qmc]
                        [--pruner=none|median|halving] [--storage=URL]
                        [--executor=local|ray]

    What is searched, and how far, stands in get_search_space() beside get_config() in the
    configuration's file; a key that is set with --config.KEY stays as it is set. The score is the
    validation co-bps. The first trial has the configuration's own values. Trials that train
    together share what changes the compiled program (layers, heads, width, batch); all else each
    has for itself.

    The same command goes on where the search was, whatever ended it, and any number of them may
    work in one directory at once: --trials counts those of all. Trials of a worker that died are
    gone on with by the next that is free. With --storage=URL, directories on several machines
    share a study in a database.

    --pruner ends trials early: median, those below the median of the whole trials at the same
    epoch; halving, the worse half after an eighth, a quarter and half of the epochs. Their places
    stay free until the next population begins.

    --executor=ray asks here and trains on a Ray cluster, one population a GPU at a time: on the one
    at --ray-address, or on one that is started on this machine. A population whose worker dies is
    given to another.

    example: stndt search --config=mc_maze_large --config.data.path=val.h5 \
                 --config.data.targets=val_target.h5 --workdir=runs/search --trials=24
    """
    fv = new_flags()
    text, whole, one_of = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_enum
    text("workdir", "", "search directory", flag_values=fv)
    whole("trials", 120, "trials to finish, by all workers together", 1, flag_values=fv)
    text("population", "auto", "trials that train together", flag_values=fv)
    one_of("sampler", "tpe", ["tpe", "random", "qmc"], "who proposes trials", flag_values=fv)
    one_of("pruner", "none", ["none", "median", "halving"], "who ends them early", flag_values=fv)
    text("storage", "", "URL of a database; a journal in DIR without it", flag_values=fv)
    text("study", "stndt", "name of the study in it", flag_values=fv)
    one_of("executor", "local", ["local", "ray"], "where to train", flag_values=fv)
    text("ray_address", "", "of a Ray cluster; started here without it", flag_values=fv)
    whole("workers", 0, "of --executor=ray; 0: one a GPU, or one", 0, flag_values=fv)
    text("config", None, "shipped name or path of a file", flag_values=fv)
    flags.DEFINE_bool("quiet", False, "a line a population, no more", flag_values=fv)
    if wants_help(argv):
        print_help(fv, search)
        return 0
    from stndt_jax.config import loading

    rest, settings = loading.split(argv)
    # As in other commands' longer flags, - may stand for _.
    rest = [re.sub(r"^--ray-address\b", "--ray_address", word) for word in rest]
    flag, _ = parse(fv, rest, search, 0)
    if not flag["workdir"]:
        raise UserError("--workdir is missing; name a directory, for example --workdir=runs/search")
    run(flag, settings)
    return 0


def run(flag: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Searches, and says what was found.

    Args:
      flag: the command's flags.
      settings: ``--config=NAME`` and ``--config.KEY=VALUE`` ones.

    Returns:
      What ``search.json`` holds.
    """
    room, plans, study = _rooms()
    with study.reachable(flag["storage"]):
        return _run(room, plans, flag, settings)


def _run(room: Any, plans: Any, flag: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    plan, data = plans.make(
        Path(flag["workdir"]),
        settings,
        trials=flag["trials"],
        population=flag["population"],
        pruner=flag["pruner"],
        sampler=flag["sampler"],
        storage=flag["storage"],
        name=flag["study"],
        quiet=flag["quiet"],
    )
    working = room.Search(plan, data)
    _say(
        f"{working.finished()} of {plan.trials} trials ended; populations of {plan.size}; "
        f"searching {', '.join([*plan.space.shared, *plan.space.own])}"
    )
    if flag["executor"] == "ray":
        _on_ray(working, flag)
    else:
        room.work(working, _say)
    return _show(Path(flag["workdir"]), working.study)


def _on_ray(working: Any, flag: dict[str, Any]) -> None:
    try:
        from stndt_jax.search import executor, ray_executor
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise UserError(
            "--executor=ray needs Ray, which is not here; pip install 'stndt_jax[ray]'"
        ) from error
    with ray_executor.pool(flag["ray_address"], flag["workers"]) as pool:
        executor.work(working, pool, _say)


def _rooms() -> Any:
    try:
        from stndt_jax.search import plan as search_plan
        from stndt_jax.search import study
        from stndt_jax.search import worker as room
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "optuna":
            raise
        raise UserError(
            "stndt search needs Optuna, which is not here; pip install 'stndt_jax[search]'"
        ) from error
    return room, search_plan, study


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def _show(folder: Path, study: Any) -> dict[str, Any]:
    """Writes the results and prints the best."""
    from stndt_jax.search import results

    found = results.write(folder, study)
    best = found["best"]
    print(f"wrote {folder / results.RESULTS} and {folder / results.TABLE}")
    if best is None:
        raise UserError(
            f"no trial of {folder} has a score; see log.txt in the folders of {folder / 'trials'}"
        )
    print(
        f"best co-bps {best['value']:.4f}: trial {best['number']}, member {best['member']} of "
        f"{folder / best['run']}"
    )
    for name, value in best["params"].items():
        print(f"  {name:24} {value:.4g}" if isinstance(value, float) else f"  {name:24} {value}")
    if found["importance"]:
        top = list(found["importance"].items())[:3]
        print("mattered most: " + ", ".join(f"{name} {share:.0%}" for name, share in top))
    print(f"next: stndt ensemble {folder} --out {folder / 'ensemble'}")
    return found
