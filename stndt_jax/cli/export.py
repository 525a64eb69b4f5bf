"""What was trained here, taken elsewhere: ``export``, ``infer`` and ``cut``."""

from __future__ import annotations

from pathlib import Path

from absl import flags

from stndt_jax.cli.flags import new_flags, parse
from stndt_jax.errors import UserError


def export(argv: list[str]) -> int:
    """Writes a run or ensemble as a folder that runs with jax and numpy alone, or inferred rates.

    usage: stndt export DIR --out=FOLDER [--weights=baked|beside] [--select=cobps|loss|last]
       or: stndt export SUBMISSION --data=INPUT --out=FILE [--name=DATASET]

    Of a run or ensemble directory, the folder holds the program (StableHLO, any number of trials;
    cpu, cuda, tpu), a manifest and load.py, which reads it in two lines. Of a submission file, the
    rates are written for other tools: the ending of FILE tells the format, .nwb, .nc (xarray,
    NetCDF) or .h5, windows of a continuous recording are merged, and an NWB file that is there
    already gets the rates added to it.

    example: stndt export runs/maze --out=model
    example: stndt export runs/maze/submission.h5 --data=mc_maze.h5 --out=rates.nwb
    """
    fv = new_flags()
    flags.DEFINE_string("out", "", "folder to write", flag_values=fv)
    flags.DEFINE_string("data", "", "the recording, of a run if it has moved", flag_values=fv)
    flags.DEFINE_string("name", "", "a submission's data set", flag_values=fv)
    flags.DEFINE_enum(
        "weights", "baked", ["baked", "beside"], "in the program, or in a file", flag_values=fv
    )
    flags.DEFINE_enum(
        "select", "cobps", ["cobps", "loss", "last"], "weights of each member", flag_values=fv
    )
    flag, (path,) = parse(fv, argv, export, 1)
    if Path(path).is_file():
        from stndt_jax.cli import data

        return data.export(argv)
    if not flag["out"]:
        raise UserError("--out is missing; name a folder to write, for example --out=model")
    from stndt_jax.interop import stablehlo as room
    from stndt_jax.training import restore

    manifest = room.export(
        restore.models(Path(path), flag["data"]),
        Path(flag["out"]),
        select=flag["select"],
        weights_file=flag["weights"] == "beside",
    )
    shapes = [", ".join(map(str, manifest[side]["shape"])) for side in ("input", "output")]
    print(f"wrote {flag['out']}: {manifest['members']} x {manifest['model']} as one function")
    print(f"counts ({shapes[0]}) to rates ({shapes[1]}), bins of {manifest['bin_ms']:g} ms")
    print(f"next: stndt infer {flag['out']} --spikes=counts.npy --out=rates.npy")
    return 0


def infer(argv: list[str]) -> int:
    """Infers rates from spike counts with an exported model.

    usage: stndt infer FOLDER --spikes=FILE.npy --out=FILE.npy [--chunk=256]

    Counts are (trials, observed bins, held-in neurons); rates are expected counts per bin,
    (trials, bins, neurons). Any number of trials; memory holds a chunk of them.

    example: stndt infer model --spikes=counts.npy --out=rates.npy
    """
    fv = new_flags()
    flags.DEFINE_string("spikes", "", "spike counts", flag_values=fv)
    flags.DEFINE_string("out", "", "rates to write", flag_values=fv)
    flags.DEFINE_integer("chunk", 256, "trials at a time", lower_bound=1, flag_values=fv)
    flag, (folder,) = parse(fv, argv, infer, 1)
    for name in ("spikes", "out"):
        if not flag[name].endswith(".npy"):
            raise UserError(f"--{name} is {flag[name] or 'missing'}; name an .npy file")
    from stndt_jax.interop import stablehlo as room

    shape = room.infer(Path(folder), Path(flag["spikes"]), Path(flag["out"]), flag["chunk"])
    print(f"wrote {flag['out']}: rates of {shape[0]} trials, {shape[1]} bins, {shape[2]} neurons")
    return 0


def cut(argv: list[str]) -> int:
    """Writes a run directory that holds chosen members of another, which stays as it is.

    usage: stndt cut DIR --members=K,... --out=DIR

    Whatever takes a run takes it; trained further, its members go on as they would have. The
    command of the further training repeats the settings of the new config.json.

    example: stndt cut runs/maze --members=0,3 --out=runs/maze_best
    """
    fv = new_flags()
    flags.DEFINE_list("members", [], "numbers of the members, from 0", flag_values=fv)
    flags.DEFINE_string("out", "", "run directory to write", flag_values=fv)
    flag, (path,) = parse(fv, argv, cut, 1)
    if not flag["out"]:
        raise UserError("--out is missing; name the directory to write, for example --out=runs/b")
    if not all(k.isdecimal() and len(k) < 10 for k in flag["members"]):
        raise UserError(
            f"--members={','.join(flag['members'])}: give numbers, for example --members=0,3"
        )
    from stndt_jax.ensembles import extract as room

    members = [int(k) for k in flag["members"]]
    room.cut(Path(path), members, Path(flag["out"]))
    print(f"wrote {flag['out']}: {len(members)} of the members of {path}")
    print(f"next: stndt evaluate {flag['out']}")
    return 0
