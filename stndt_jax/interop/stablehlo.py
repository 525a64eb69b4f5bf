"""Export of a run or an ensemble as a directory that runs without this package.

``rates.stablehlo``  the program, from counts to rates, for any number of trials: versioned bytes
                     of ``jax.export``, compiled for cpu, cuda or tpu when it is loaded
``weights.npz``      the weights, unless they are part of the program
``manifest.json``    shapes, the neurons (identifier, area, whether held out), bin width, numbers of
                     bins, versions, checksums
``load.py``          a copy of ``stablehlo_loader.py``

The program assumes that every bin was recorded: bins that were not count as bins without spikes.

An exported model can be loaded with the version of jax that exported it and with newer ones:
export with the oldest version that will have to load it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from stndt_jax import files
from stndt_jax.config.schema import Hyper
from stndt_jax.console import progress
from stndt_jax.data.numpy_files import load_numpy
from stndt_jax.errors import UserError
from stndt_jax.interop import stablehlo_loader
from stndt_jax.runs import directory, ensemble_directory
from stndt_jax.training import step
from stndt_jax.training.restore import SelectedBy, TrainedModel
from stndt_jax.types import Array, Float, Int, NDArray, Params

PLATFORMS = ("cpu", "cuda", "tpu")
_PROGRAM, _WEIGHTS = "rates.stablehlo", "weights.npz"


class StackedMembers(NamedTuple):
    """Members of an ensemble that have one architecture; leaves with a leading axis K.

    Attributes:
      arch: their architecture.
      params: network parameters.
      hyper: hyperparameters.
      weights: weights in the mean over the ensemble.
    """

    arch: step.Arch
    params: Params
    hyper: Hyper
    weights: Float[NDArray, " K"]


def mean_rates(
    stacks: list[StackedMembers], counts: Int[Array, "B T_obs N_in"]
) -> Float[Array, "B T N"]:
    """Weighted mean of the rates of all members, expected counts per bin.

    Args:
      stacks: the members by architecture; all weights add up to 1.
      counts: spike counts of held-in neurons in observed bins.
    """
    dims = stacks[0].arch.dims
    pad = ((0, 0), (0, dims.bins_forward), (0, dims.heldout))
    x_BTN = jnp.pad(counts, pad).astype(jnp.uint32)
    total_BTN = jnp.zeros(x_BTN.shape, jnp.float32)
    for stack in stacks:

        def add(
            total: Array, member: tuple[Params, Hyper, Array], stack: StackedMembers = stack
        ) -> tuple[Array, None]:
            params, hyper, weight = member
            return total + weight * step.rates(stack.arch, params, hyper, x_BTN), None

        # A scan, so that memory does not grow with the ensemble.
        leaves = (stack.params, stack.hyper, jnp.asarray(stack.weights))
        total_BTN, _ = jax.lax.scan(add, total_BTN, leaves)
    return total_BTN


def stack_by_architecture(models: list[TrainedModel], select: SelectedBy) -> list[StackedMembers]:
    """Stacks the members of an ensemble that have the same architecture.

    Args:
      models: members of the ensemble.
      select: which weights of each member.
    """
    found: dict[step.Arch, list[TrainedModel]] = {}
    for model in models:
        arch = step.inference(model.trained.arch)
        # The program assumes that every bin was recorded.
        arch = dataclasses.replace(arch, dims=dataclasses.replace(arch.dims, gaps=False))
        found.setdefault(arch, []).append(model)
    stacks = []
    for arch, members in found.items():
        params: Params = _stacked([m.trained.params(m.member, select) for m in members])
        # The contrastive projectors do not affect rates.
        params = {name: tree for name, tree in params.items() if "projector" not in name}
        hyper: Hyper = _stacked([m.hyper for m in members])
        weights = np.array([m.weight for m in members], np.float32)
        stacks.append(StackedMembers(arch, params, hyper, weights))
    return stacks


def _stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


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
      weights_file: write the weights to a file of their own instead of into the program.

    Returns:
      The manifest.

    Raises:
      UserError: the directory cannot be written.
    """
    stacks = stack_by_architecture(models, select)
    dims = stacks[0].arch.dims
    leaves, tree = jax.tree.flatten_with_path([stack.params for stack in stacks])
    names = [_name(path, len(stacks)) for path, _ in leaves] if weights_file else []
    values = [leaf for _, leaf in leaves]

    def rates(weights: list[Array], counts: Array) -> Array:
        params = jax.tree.unflatten(tree, weights or values)
        return mean_rates(
            [stack._replace(params=p) for stack, p in zip(stacks, params, strict=True)], counts
        )

    (b,) = jax_export.symbolic_shape("b")
    counts = jax.ShapeDtypeStruct((b, dims.bins_observed, dims.heldin), jnp.int32)
    like = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in values] if weights_file else []
    # By default, GPUs multiply with reduced precision.
    with jax.default_matmul_precision("highest"):
        exported = jax_export.export(jax.jit(rates), platforms=PLATFORMS)(like, counts)

    with files.filling(out, last="manifest.json") as folder:
        files.write_bytes(folder / _PROGRAM, exported.mlir_module_serialized)
        if weights_file:
            stored: dict[str, Any] = {
                name: np.asarray(x) for name, x in zip(names, values, strict=True)
            }
            np.savez(folder / _WEIGHTS, **stored)
        files.write_bytes(folder / "load.py", Path(stablehlo_loader.__file__).read_bytes())
        manifest = _manifest(models, exported, names, folder)
        files.write_json(folder / "manifest.json", manifest)
    if not weights_file:
        (out / _WEIGHTS).unlink(missing_ok=True)  # of an earlier export
    return manifest


def _name(path: tuple[Any, ...], stacks: int) -> str:
    """The name of a weight: its stack, if there are several, and its keys."""
    stack, *keys = path
    return ".".join([*([f"group_{stack.idx}"] if stacks > 1 else []), *(k.key for k in keys)])


def _manifest(
    models: list[TrainedModel], exported: jax_export.Exported, names: list[str], out: Path
) -> dict[str, Any]:
    trained = models[0].trained
    dims, data = trained.arch.dims, trained.data
    kinds = {"STNDT" if model.trained.config.model.spatial else "NDT" for model in models}
    written = [_PROGRAM, *([_WEIGHTS] if names else [])]
    return {
        "format": 1,
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
        "platforms": list(exported.platforms),
        "calling": {
            "calling_convention_version": exported.calling_convention_version,
            "module_kept_var_idx": list(exported.module_kept_var_idx),
            "uses_global_constants": exported.uses_global_constants,
        },
        "weights": names,
        "versions": directory.versions(),
        "sha256": {name: files.sha256(out / name) for name in written},
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
      UserError: there is none, or it is damaged.
    """
    try:
        return stablehlo_loader.Model(folder)
    except FileNotFoundError as error:
        if ensemble_directory.is_run(folder) or ensemble_directory.is_ensemble(folder):
            raise UserError(
                f"{folder} is a run directory, not an exported model; export it with stndt export "
                f"{folder} --out=DIR, then give DIR"
            ) from None
        raise UserError(
            f"{error.filename} does not exist; give a folder that stndt export wrote, not {folder}"
        ) from None
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{folder} cannot be read ({error}); export the model again") from error
