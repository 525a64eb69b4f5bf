"""Export of a run or an ensemble as a directory that runs without this package.

``rates.stablehlo``    the program, from counts to rates, for any number of trials, as
                       ``jax.export`` serialises it; compiled for cpu, cuda or tpu when it is loaded
``weights.npz``        the weights: arguments of the program, unless it has a copy of them
``architecture.json``  with the weights, all that is needed to make the program again
``manifest.json``      shapes, the neurons (identifier, area, whether held out), bin width, numbers
                       of bins, versions, date, checksums
``load.py``            a copy of ``stablehlo_loader.py``

The program assumes that every bin was recorded: bins that were not count as bins without spikes.

A program can be loaded with the version of jax that exported it, and with newer ones for six
months: export with the oldest version that will have to load it, and make it again (:func:`again`)
with a newer one. In manifests of format 1 the program is StableHLO without the signature that
``jax.export`` adds, and there is no ``architecture.json``.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from stndt_jax import files
from stndt_jax.console import progress
from stndt_jax.data.numpy_files import load_numpy
from stndt_jax.errors import UserError
from stndt_jax.interop import stablehlo_loader, stacks
from stndt_jax.interop.stacks import StackedMembers
from stndt_jax.runs import directory, ensemble_directory
from stndt_jax.training.restore import SelectedBy, TrainedModel
from stndt_jax.types import Array, NDArray

PLATFORMS = ("cpu", "cuda", "tpu")
FORMAT = 2
_PROGRAM, _MANIFEST, _LOADER = "rates.stablehlo", "manifest.json", "load.py"
_SOURCES = (stacks.WEIGHTS, stacks.ARCHITECTURE)


def export(
    models: list[TrainedModel],
    out: Path,
    *,
    select: SelectedBy = "cobps",
    weights_file: bool = False,
) -> dict[str, Any]:
    """Exports an ensemble as one function.

    Args:
      models: members of the ensemble and their weights, as ``restore.models`` returns them.
      out: the directory to write; files of an earlier export are replaced together.
      select: which weights of each member.
      weights_file: let the program take the weights from their file instead of having a copy.

    Returns:
      The manifest.

    Raises:
      UserError: the directory cannot be written, or holds other files.
    """
    files.check_output(out, "an exported model")
    members = stacks.by_architecture(models, select)
    exported, names = _program(members, weights_file)
    with files.filling(out, last=_MANIFEST) as folder:
        stacks.write(members, folder)
        _write_program(exported, folder)
        manifest = {**_made(exported, names, folder), **_described(models), "made_again": []}
        files.write_json(folder / _MANIFEST, manifest)
    return manifest


def again(source: Path, out: Path) -> dict[str, Any]:
    """Makes the program of an exported model again, with the version of jax that is installed.

    Neurons, bins and weights stay as they are. What the manifest said of the earlier program
    (date, versions, checksum) is added to its list ``made_again``.

    Args:
      source: the directory of an exported model. Its program is not read.
      out: the directory to write, which may be ``source``; files of an earlier export are replaced
        together.

    Returns:
      The manifest.

    Raises:
      UserError: the model has format 1, or is damaged, or the directory cannot be written or
        holds other files.
    """
    old = _read_manifest(source)
    files.check_output(out, "an exported model")
    for name in _SOURCES:
        if not (source / name).is_file() or files.sha256(source / name) != old["sha256"].get(name):
            raise UserError(
                f"{source / name} is missing or is not the file that was exported; restore it, or "
                f"{stacks.EXPORT_AGAIN}"
            )
    exported, names = _program(stacks.read(source), bool(old["weights"]))
    before = {
        "exported": old["exported"],
        "versions": old["versions"],
        "sha256": old["sha256"].get(_PROGRAM),
    }
    with files.filling(out, last=_MANIFEST) as folder:
        for name in _SOURCES:
            files.write_bytes(folder / name, (source / name).read_bytes())
        _write_program(exported, folder)
        made = _made(exported, names, folder)
        record = {"date": made["exported"], "from": before}
        manifest = {**old, **made, "made_again": [*old["made_again"], record]}
        files.write_json(folder / _MANIFEST, manifest)
    return manifest


def _read_manifest(source: Path) -> dict[str, Any]:
    """The manifest of a model that can be made again.

    Raises:
      UserError: it cannot.
    """
    try:
        manifest = json.loads((source / _MANIFEST).read_bytes())
        stablehlo_loader.check_manifest(manifest)
        found = manifest["format"]
    except (FileNotFoundError, NotADirectoryError):
        raise _no_model(source, source / _MANIFEST) from None
    except (ValueError, OSError) as error:
        raise UserError(
            f"{source / _MANIFEST} cannot be read ({error}); {stacks.EXPORT_AGAIN}"
        ) from error
    if found == 1:
        raise UserError(
            f"{source} has format 1, without what is needed to make it again; {stacks.EXPORT_AGAIN}"
        )
    if found != FORMAT:
        raise UserError(
            f"{source} has format {found}, but this version reads formats up to {FORMAT}; use a "
            f"newer version of stndt_jax"
        )
    return manifest


def _program(
    members: list[StackedMembers], weights_file: bool
) -> tuple[jax_export.Exported, list[str]]:
    """The program, and the names of the weights that are its arguments."""
    dims = members[0].arch.dims
    named = stacks.named_params(members)
    values, tree = jax.tree.flatten([stack.params for stack in members])

    def rates(weights: list[Array], counts: Array) -> Array:
        params = jax.tree.unflatten(tree, weights or values)
        return stacks.mean_rates(
            [stack._replace(params=p) for stack, p in zip(members, params, strict=True)], counts
        )

    (b,) = jax_export.symbolic_shape("b")
    counts = jax.ShapeDtypeStruct((b, dims.bins_observed, dims.heldin), jnp.int32)
    like = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in values] if weights_file else []
    # By default, GPUs multiply with reduced precision.
    with jax.default_matmul_precision("highest"):
        exported = jax_export.export(jax.jit(rates), platforms=PLATFORMS)(like, counts)
    return exported, list(named) if weights_file else []


def _write_program(exported: jax_export.Exported, folder: Path) -> None:
    files.write_bytes(folder / _PROGRAM, bytes(exported.serialize()))
    files.write_bytes(folder / _LOADER, Path(stablehlo_loader.__file__).read_bytes())


def _made(exported: jax_export.Exported, names: list[str], folder: Path) -> dict[str, Any]:
    """What the manifest says of the program, and of the time and the versions it was made with."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "format": FORMAT,
        "exported": now.isoformat(timespec="seconds"),
        "versions": directory.versions(),
        "platforms": list(exported.platforms),
        "calling_convention_version": exported.calling_convention_version,
        "weights": names,
        "sha256": {name: files.sha256(folder / name) for name in (_PROGRAM, *_SOURCES)},
    }


def _described(models: list[TrainedModel]) -> dict[str, Any]:
    """What the manifest says of the model and of the recording."""
    trained = models[0].trained
    dims, data = trained.arch.dims, trained.data
    kinds = {"STNDT" if model.trained.config.model.spatial else "NDT" for model in models}
    return {
        "data": data.name,
        "model": " and ".join(sorted(kinds)),
        "members": len(models),
        "input": {
            "shape": ["trials", dims.bins_observed, dims.heldin],
            "dtype": "int32",
            "unit": "spike counts per bin, held-in neurons in observed bins",
        },
        "output": {
            "shape": ["trials", dims.bins, dims.neurons],
            "dtype": "float32",
            "unit": "expected spike counts per bin",
        },
        "bin_ms": data.bin_ms,
        "bins": {"observed": dims.bins_observed, "forward": dims.bins_forward},
        "neurons": [f"held-in {n}" for n in range(dims.heldin)]
        + [f"held-out {n}" for n in range(dims.heldout)],
        "units": {
            name: column.tolist()
            for name, column in data.unit_table().items()
            if name in ("unit", "area", "held_out")
        },
    }


def infer(
    folder: Path,
    spikes: Path,
    out: Path,
    chunk: int = 256,
    units: Sequence[int] | NDArray | None = None,
) -> tuple[int, ...]:
    """Infers rates from a file of counts with an exported model and writes them to a file.

    Args:
      folder: the directory of an exported model.
      spikes: ``.npy`` file of spike counts (trials, bins, neurons): the observed bins or all, the
        held-in neurons or all.
      out: ``.npy`` file to write: rates (trials, bins, neurons), float32, expected counts per bin.
      chunk: number of trials in memory at a time.
      units: identifiers of the neurons of ``spikes``, which may then be any, in any order, if the
        held-in ones are among them.

    Returns:
      The shape of the rates.

    Raises:
      UserError: the model or the counts cannot be read, or do not fit each other.
    """
    model = _loaded(folder)
    counts_RTn = load_numpy(spikes, mmap=True)
    if isinstance(counts_RTn, dict):
        raise UserError(f"{spikes} holds several arrays; give counts as .npy")

    try:
        model.place(counts_RTn, units)
    except ValueError as error:
        raise UserError(f"{spikes} does not fit the model in {folder}: {error}") from None
    if not len(counts_RTn):
        raise UserError(f"{spikes} has shape {counts_RTn.shape}, that is no trials; give some")
    shape = (len(counts_RTn), *model.manifest["output"]["shape"][1:])
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    # Written chunk by chunk: a memory map would end the process with SIGBUS on a full disk.
    with files.replacing(out, "choose another --out") as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for first in progress.each(range(0, shape[0], chunk), "chunks of trials"):
            try:
                part = model.inputs(counts_RTn[first : first + chunk], units, first)
            except ValueError as error:
                raise UserError(f"{spikes}: {error}") from None
            # Padded, so that all chunks have the same shape and are compiled once.
            padding = min(chunk, shape[0]) - len(part)
            padded = np.pad(part, ((0, padding), (0, 0), (0, 0)))
            rates_BTN = np.asarray(model.rates(padded, chunk)[: len(part)], "<f4")
            file.write(rates_BTN.tobytes())
    return shape


def _loaded(folder: Path) -> stablehlo_loader.Model:
    """The model in a directory.

    Raises:
      UserError: there is none, or it is damaged, or this version of jax cannot read it.
    """
    try:
        return stablehlo_loader.Model(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_model(folder, error.filename) from None
    except stablehlo_loader.ModelError as error:
        raise UserError(str(error)) from error
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{folder} cannot be read ({error}); {stacks.EXPORT_AGAIN}") from error


def _no_model(folder: Path, missing: str | Path) -> UserError:
    """The mistake of naming a directory that is no exported model, or no whole one."""
    if ensemble_directory.is_run(folder) or ensemble_directory.is_ensemble(folder):
        return UserError(
            f"{folder} is a run directory, not an exported model; export it with stndt export "
            f"{folder} --out=DIR, then give DIR"
        )
    return UserError(
        f"{missing} does not exist; give a folder that stndt export wrote, not {folder}"
    )
