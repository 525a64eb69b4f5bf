"""A run or an ensemble as a folder that anybody can run: StableHLO, a manifest and a small loader.

``rates.stablehlo``  the program, counts to rates, for any number of trials; versioned bytes of
                     ``jax.export``, compiled for cpu, cuda and tpu where it is loaded
``weights.npz``      the weights, unless they are part of the program
``manifest.json``    shapes, units, order of the neurons, bin width, versions, checksums
``load.py``          ``stndt_jax/loader.py``

Trials are taken to be recorded in full: what was not recorded counts as silence.

An artefact loads in the jax that wrote it and in newer ones; export from the oldest that is to
read it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from stndt_jax import files
from stndt_jax.config.schema import Hyper
from stndt_jax.data.validation import load_numpy
from stndt_jax.errors import UserError
from stndt_jax.interop import stablehlo_loader
from stndt_jax.runs import directory
from stndt_jax.training import step
from stndt_jax.training.restore import SelectedBy, TrainedModel
from stndt_jax.types import Array, Float, Int, NDArray, Params

PLATFORMS = ("cpu", "cuda", "tpu")
_PROGRAM = "rates.stablehlo"


class Group(NamedTuple):
    """Members of one architecture: weights, scalars and shares of the mean with an axis K."""

    arch: step.Arch
    params: Params
    hyper: Hyper
    shares: NDArray


def mean_rates(groups: list[Group], counts: Int[Array, "B T_obs N_in"]) -> Float[Array, "B T N"]:
    """Mean rate over the members of all groups, each with its share."""
    dims = groups[0].arch.dims
    pad = ((0, 0), (0, dims.bins_forward), (0, dims.heldout))
    x_BTN = jnp.pad(counts, pad).astype(jnp.uint32)
    total_BTN = jnp.zeros(x_BTN.shape, jnp.float32)
    for group in groups:

        def add(
            total: Array, member: tuple[Params, Hyper, Array], group: Group = group
        ) -> tuple[Array, None]:
            params, hyper, share = member
            return total + share * step.rates(group.arch, params, hyper, x_BTN), None

        # One member after another: memory does not grow with the ensemble.
        leaves = (group.params, group.hyper, jnp.asarray(group.shares))
        total_BTN, _ = jax.lax.scan(add, total_BTN, leaves)
    return total_BTN


def grouped(models: list[TrainedModel], select: SelectedBy) -> list[Group]:
    """The members of an ensemble, those of one architecture together."""
    found: dict[step.Arch, list[TrainedModel]] = {}
    for model in models:
        arch = step.inference(model.trained.arch)
        # Trials are taken to be recorded in full.
        arch = dataclasses.replace(arch, dims=dataclasses.replace(arch.dims, gaps=False))
        found.setdefault(arch, []).append(model)
    groups = []
    for arch, same in found.items():
        params = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *[m.trained.params(m.member, select) for m in same]
        )
        # The contrastive projectors take no part in rates.
        params = {name: tree for name, tree in params.items() if "projector" not in name}
        hyper = [jax.tree.map(lambda x, k=m.member: x[k], m.trained.hyper) for m in same]
        shares = np.array([m.weight for m in same], np.float32)
        groups.append(Group(arch, params, jax.tree.map(lambda *x: jnp.stack(x), *hyper), shares))
    return groups


def export(
    models: list[TrainedModel], out: Path, *, select: SelectedBy = "cobps", beside: bool = False
) -> dict[str, Any]:
    """Writes an ensemble as one function.

    Args:
      models: its members and their shares, as ``restore.models`` gives them.
      out: folder to make.
      select: which weights of each member.
      beside: weights in a file of their own rather than in the program.

    Returns:
      The manifest.

    Raises:
      UserError: the folder cannot be written.
    """
    groups = grouped(models, select)
    dims = groups[0].arch.dims
    leaves, tree = jax.tree.flatten_with_path([group.params for group in groups])
    names = [_name(path, len(groups)) for path, _ in leaves] if beside else []
    values = [leaf for _, leaf in leaves]

    def rates(weights: list[Array], counts: Array) -> Array:
        given = jax.tree.unflatten(tree, weights or values)
        own = [group._replace(params=p) for group, p in zip(groups, given, strict=True)]
        return mean_rates(own, counts)

    (b,) = jax_export.symbolic_shape("b")
    counts = jax.ShapeDtypeStruct((b, dims.bins_observed, dims.heldin), jnp.int32)
    like = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in values] if beside else []
    # GPUs round products to fewer bits unless told otherwise.
    with jax.default_matmul_precision("highest"):
        exported = jax_export.export(jax.jit(rates), platforms=PLATFORMS)(like, counts)

    directory.make(out)
    files.write_bytes(out / _PROGRAM, exported.mlir_module_serialized)
    if beside:
        stored: dict[str, Any] = {
            name: np.asarray(x) for name, x in zip(names, values, strict=True)
        }
        with files.replacing(out / "weights.npz") as partial:
            np.savez(partial, **stored)
    files.write_bytes(out / "load.py", Path(stablehlo_loader.__file__).read_bytes())
    manifest = _manifest(models, exported, names, out)
    files.write_json(out / "manifest.json", manifest)
    return manifest


def _name(path: tuple[Any, ...], groups: int) -> str:
    """A weight's name: that of its group, where there are several, and its keys."""
    group, *keys = path
    return ".".join([*([f"group_{group.idx}"] if groups > 1 else []), *(k.key for k in keys)])


def _manifest(
    models: list[TrainedModel], exported: jax_export.Exported, names: list[str], out: Path
) -> dict[str, Any]:
    trained = models[0].trained
    dims, data = trained.arch.dims, trained.data
    kinds = {"STNDT" if model.trained.config.model.spatial else "NDT" for model in models}
    written = [_PROGRAM, *(["weights.npz"] if names else [])]
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


def infer(folder: Path, spikes: Path, out: Path, chunk: int = 256) -> tuple[int, ...]:
    """Rates of the trials in a file, into a file, a chunk of them in memory at a time.

    Args:
      folder: what ``export`` wrote.
      spikes: ``.npy``, (trials, observed bins, held-in neurons), spike counts.
      out: ``.npy`` to write, float32, (trials, bins, neurons).
      chunk: trials at a time.

    Returns:
      The shape of the rates.

    Raises:
      UserError: the model or the counts cannot be read, or do not fit each other.
    """
    try:
        model = stablehlo_loader.Model(folder)
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename} does not exist; {folder} is no folder of stndt export"
        ) from None
    except (KeyError, ValueError, OSError) as error:
        raise UserError(f"{folder} cannot be read ({error}); export the model again") from error
    counts_RTN = load_numpy(spikes, mmap=True)
    if isinstance(counts_RTN, dict):
        raise UserError(f"{spikes} holds several arrays; give counts as .npy")
    wanted = tuple(model.manifest["input"]["shape"][1:])
    if counts_RTN.ndim != 3 or counts_RTN.shape[1:] != wanted:
        raise UserError(
            f"{spikes} has shape {counts_RTN.shape}; the model in {folder} demands "
            f"(trials, {wanted[0]} observed bins, {wanted[1]} held-in neurons)"
        )
    shape = (len(counts_RTN), *model.manifest["output"]["shape"][1:])
    with files.replacing(out, "choose another --out") as partial:
        if not len(counts_RTN):
            np.save(partial, np.zeros(shape, np.float32), allow_pickle=False)
            return shape
        rates_RTN = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
        for first in range(0, shape[0], chunk):
            part = _counts(counts_RTN[first : first + chunk], spikes, first)
            # Filled up with silence: every chunk has one shape.
            fill = min(chunk, shape[0]) - len(part)
            filled = np.pad(part, ((0, fill), (0, 0), (0, 0)))
            rates_RTN[first : first + chunk] = model.rates(filled, chunk)[: len(part)]
        rates_RTN.flush()
    return shape


def _counts(part: NDArray, spikes: Path, first: int) -> Int[NDArray, "B T_obs N_in"]:
    """Counts of some trials as int32.

    Raises:
      UserError: one is no whole number from 0 on.
    """
    part = np.asarray(part)
    whole = part.dtype.kind in "iub" or (part.dtype.kind == "f" and np.all(part == np.floor(part)))
    if not whole or np.any(part < 0):
        raise UserError(
            f"{spikes} holds what is no spike count in trials {first} to {first + len(part) - 1}; "
            f"counts are whole numbers, 0 or more"
        )
    return part.astype(np.int32)
