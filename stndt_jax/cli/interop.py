"""``import``, ``export`` and ``infer``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stndt_jax import files
from stndt_jax.cli import flags as shared
from stndt_jax.cli.flags import Flags, Values
from stndt_jax.errors import UserError

if TYPE_CHECKING:
    from stndt_jax.data.trials import SpikeData


def import_(argv: list[str]) -> int:
    """Makes a run directory from PyTorch checkpoints of STNDT or NDT.

    usage: stndt import CHECKPOINT.pth|DIR --data=FILE --out=DIR [--targets=FILE]

    The file is read without executing anything in it; PyTorch need not be installed.
    All checkpoints in a directory become one population. --data is the recording they
    were trained on.

    example: stndt import maze.lve.pth --data=mc_maze.h5 --out=runs/maze
    """
    flags = Flags(import_)
    shared.data(flags, required=True)
    shared.targets(flags, "none")
    shared.out(flags, "DIR", "run directory to write", required="runs/maze")
    flag, (path,) = flags.parse(argv, 1)
    from stndt_jax.data import hdf5
    from stndt_jax.interop import torch_checkpoint

    files.make_parent(Path(flag["out"]))
    data = hdf5.read(flag["data"], flag["targets"] or None)
    config = torch_checkpoint.import_run(
        Path(path), data, flag["data"], flag["targets"], Path(flag["out"])
    )
    kind = "STNDT" if config.model.spatial else "NDT"
    print(f"imported {config.population} x {kind} into {flag['out']}")
    shared.following("evaluate", flag["out"])
    return 0


def export(argv: list[str]) -> int:
    """Writes a trained model, or inferred rates, for other programs.

    usage: stndt export DIR --out=DIR [--weights=baked|beside] [--select=cobps|...]
       or: stndt export --again MODEL [--out=DIR]
       or: stndt export SUBMISSION --out=FILE [--data=FILE] [--targets=FILE]
                        [--name=DATASET]

    Of a run or ensemble directory it writes a directory with the program (StableHLO;
    any number of trials; cpu, cuda, tpu), its weights and architecture, a manifest and
    load.py, which needs jax, numpy and flatbuffers only. Of a submission file it writes
    the rates, with all that is known of the trials and units; the ending of --out is
    the format: .nwb, .nc (xarray, NetCDF) or .h5. Windows of a continuous recording are
    merged. The recording is that of the run, unless --data names it.

    JAX reads a program for six months after the version that wrote it. --again makes
    the program of an exported model again, with the installed version of jax, from what
    is in its directory; the manifest keeps the earlier date and versions.

    To an existing NWB file the rates are added; otherwise --out replaces an earlier
    export of the same kind, and nothing else.

    example: stndt export runs/maze --out=model
    example: stndt export --again model
    example: stndt export runs/maze/submission.h5 --out=rates.nc
    """
    flags = Flags(export)
    shared.out(flags, "DIR|FILE", "directory or file to write; with --again, default: MODEL itself")
    flags.switch("again", "make the program of an exported model again")
    flags.text("data", "FILE", "HDF5 file of the recording, if it is not that of the run")
    flags.text("targets", "FILE", "HDF5 file of the targets, which know all conditions")
    flags.text("name", "DATASET", "data set of a submission, if the recording has another name")
    flags.choice(
        "weights",
        "whether the program has a copy of the weights, or takes them from the file beside it",
        ["baked", "beside"],
        "baked",
    )
    shared.select(flags)
    if argv == ["--again"]:
        raise UserError("--again needs an exported model; for example stndt export --again model")
    flag, (path,) = flags.parse(argv, 1)
    if flag["again"]:
        flag.refuse("data", "targets", "name", "weights", "select", when="with --again")
        return _export_again(Path(path), Path(flag["out"] or path))
    if not flag["out"]:
        raise UserError("--out is missing; for example --out=model")
    if Path(path).is_file():
        flag.refuse("weights", "select", when="on a submission file")
        return _export_rates(Path(path), flag)
    flag.refuse("name", "targets", when="on a run directory, but only on a submission file")
    if Path(path).is_dir() and Path(flag["out"]).suffix in (".nwb", ".nc", ".h5"):
        raise UserError(
            f"--out={flag['out']} names a file of rates, but of {path} the model is exported, as a "
            f"directory; for its rates: stndt evaluate {path}, then stndt export "
            f"{Path(path) / 'submission.h5'} --out={flag['out']}"
        )
    files.check_output(Path(flag["out"]), "an exported model", [path])
    from stndt_jax.interop import stablehlo
    from stndt_jax.training import restore

    manifest = stablehlo.export(
        restore.models(Path(path), flag["data"]),
        Path(flag["out"]),
        select=flag["select"],
        weights_file=flag["weights"] == "beside",
    )
    _wrote_model(manifest, flag["out"])
    return 0


def _export_again(model: Path, out: Path) -> int:
    from stndt_jax.interop import stablehlo

    manifest = stablehlo.again(model, out)
    before = manifest["made_again"][-1]["from"]
    _wrote_model(manifest, str(out))
    print(
        f"made again with jax {manifest['versions']['jax']}; the earlier program was exported on "
        f"{before['exported'][:10]} with jax {before['versions']['jax']}"
    )
    return 0


def _wrote_model(manifest: dict[str, Any], out: str) -> None:
    """Prints what a model takes and gives, and the command that uses it."""
    shapes = [", ".join(map(str, manifest[side]["shape"])) for side in ("input", "output")]
    print(f"wrote {out}: {manifest['members']} x {manifest['model']} as one function")
    print(f"counts ({shapes[0]}) to rates ({shapes[1]}), bins of {manifest['bin_ms']:g} ms")
    shared.following("infer", out, "--spikes=counts.npy", "--out=rates.npy")


def _export_rates(path: Path, flag: Values) -> int:
    nwb = flag["out"].endswith(".nwb")
    kind: files.Output = "an NWB file" if nwb else "a file of exported rates"
    files.check_output(Path(flag["out"]), kind, [path, flag["data"]])
    from stndt_jax.data import export as rates_file
    from stndt_jax.data import hdf5
    from stndt_jax.evaluation import submission

    data = _recording_of(path, flag)
    group = hdf5.group_name(data.name, data.bin_ms)
    rates = submission.read(path, group, strict=bool(flag["name"]))
    submission.check(rates, data)
    about = {"submission": str(path), "fingerprint": data.fingerprint()}
    found = rates_file.collect(rates, data, about)
    rates_file.write(found, flag["out"])
    R, T, N = found.rates.shape
    print(f"wrote {flag['out']}: {R} x {T} bins of {data.bin_ms:g} ms, {N} neurons, counts per bin")
    return 0


def _recording_of(submission: Path, flag: Values) -> SpikeData:
    """The recording of a submission: the one that was named, or that of the run it lies in.

    Raises:
      UserError: none is named, or a file cannot be read.
    """
    from stndt_jax.data import hdf5
    from stndt_jax.runs import ensemble_directory, recording

    run, data, targets, expected = submission.parent, flag["data"], flag["targets"], ""
    config = None
    if ensemble_directory.is_run(run) or ensemble_directory.is_ensemble(run):
        config = ensemble_directory.read_config(run)
        expected, data = config.data.name, data or config.data.path
        if not targets and Path(config.data.targets).is_file():
            targets = config.data.targets
    if not data:
        raise UserError("--data is missing; name the recording, for example --data=mc_maze.h5")
    found = hdf5.read(data, targets or None, name=flag["name"] or None, expected=expected or None)
    other = config and recording.difference(run, config, found, data, targets)
    if other:
        warnings.warn(other, stacklevel=2)
    return found


def infer(argv: list[str]) -> int:
    """Infers rates from spike counts with an exported model.

    usage: stndt infer DIR --spikes=FILE.npy --out=FILE.npy [--units=FILE|0,3,...]

    Counts are (trials, bins, neurons): observed bins or all bins; the held-in neurons,
    or all, in the order of the model. With --units, the identifiers of the neurons of
    the counts, they may be in any order, and those that the model needs are picked.

    Rates are (trials, bins, neurons) in expected counts per bin, held-in neurons first;
    manifest.json in DIR has their identifiers and areas.

    example: stndt infer model --spikes=counts.npy --out=rates.npy
    example: stndt infer model --spikes=all.npy --units=0-173 --out=rates.npy
    """
    flags = Flags(infer)
    flags.text("spikes", "FILE", ".npy file of spike counts", required="counts.npy")
    shared.out(flags, "FILE", ".npy file of rates to write", required="rates.npy")
    flags.words(
        "units",
        "ID|FILE",
        "identifiers of the neurons of the counts: numbers, ranges such as 0-47, or a .npy or text "
        "file of numbers",
    )
    flags.whole("chunk", "trials in memory at a time", 256, 1)
    flag, (folder,) = flags.parse(argv, 1)
    for name in ("spikes", "out"):
        if not flag[name].endswith(".npy"):
            raise UserError(f"--{name} is {flag[name]}; name an .npy file")
    files.check_output(Path(flag["out"]), "a .npy file of rates", [flag["spikes"]])
    from stndt_jax.interop import stablehlo

    units = shared.whole_numbers("units", flag["units"]) if flag["units"] else None
    shape = stablehlo.infer(
        Path(folder), Path(flag["spikes"]), Path(flag["out"]), flag["chunk"], units
    )
    print(f"wrote {flag['out']}: rates (trials, bins, neurons) of shape {shape}")
    print(f"neurons are held-in, then held-out: {Path(folder) / 'manifest.json'} names them")
    return 0
