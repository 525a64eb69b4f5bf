"""Members of an ensemble, stacked by architecture: their mean rate, and their files.

``weights.npz``        network parameters, one array for each, leading axis K (members)
``architecture.json``  sizes of a trial, and for each stack its configuration, hyperparameters and
                       weights in the mean

An exported model has these files, so that its program can be made again without the run or the
recording. With several stacks, names of parameters begin with ``group_0.``, ``group_1.``, ...
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax import files
from stndt_jax.config import schema
from stndt_jax.config.schema import Config, Hyper
from stndt_jax.data.numpy_files import load_numpy
from stndt_jax.errors import UserError
from stndt_jax.training import setup, step
from stndt_jax.training.restore import SelectedBy, TrainedModel
from stndt_jax.types import Array, Dims, Float, Int, NDArray, Params

ARCHITECTURE, WEIGHTS = "architecture.json", "weights.npz"
_SIZES = ("bins_observed", "bins_forward", "heldin", "heldout")
EXPORT_AGAIN = "export the model again from its run, with stndt export RUN --out=DIR"


class StackedMembers(NamedTuple):
    """Members of an ensemble that have one architecture; leaves with a leading axis K.

    Attributes:
      config: configuration of the run of the first of them; those of the others may have other
        hyperparameters.
      arch: their architecture.
      params: network parameters.
      hyper: hyperparameters.
      weights: weights in the mean over the ensemble.
    """

    config: Config
    arch: step.Arch
    params: Params
    hyper: Hyper
    weights: Float[NDArray, " K"]


def by_architecture(models: list[TrainedModel], select: SelectedBy) -> list[StackedMembers]:
    """Stacks the members of an ensemble that have the same architecture.

    Args:
      models: members of the ensemble.
      select: which weights of each member.
    """
    found: dict[step.Arch, list[TrainedModel]] = {}
    for model in models:
        found.setdefault(_inference(model.trained.arch), []).append(model)
    stacks = []
    for arch, members in found.items():
        params: Params = _stacked([m.trained.params(m.member, select) for m in members])
        hyper: Hyper = _stacked([m.hyper for m in members])
        weights = np.array([m.weight for m in members], np.float32)
        config = members[0].trained.config
        stacks.append(StackedMembers(config, arch, _without_projectors(params), hyper, weights))
    return stacks


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


def named_params(stacks: list[StackedMembers]) -> dict[str, Any]:
    """The parameters of all stacks (or their shapes) by name, in the order of ``jax.tree``."""
    leaves, _ = jax.tree.flatten_with_path([stack.params for stack in stacks])
    return {_name(path, len(stacks)): leaf for path, leaf in leaves}


def write(stacks: list[StackedMembers], folder: Path) -> None:
    """Writes ``weights.npz`` and ``architecture.json``.

    Args:
      stacks: the members by architecture.
      folder: a directory of :func:`stndt_jax.files.filling`.

    Raises:
      UserError: they cannot be written.
    """
    arrays: dict[str, Any] = {name: np.asarray(x) for name, x in named_params(stacks).items()}
    with files.replacing(folder / WEIGHTS) as partial:
        np.savez(partial, **arrays)
    dims = stacks[0].arch.dims
    described = {
        "dims": {name: getattr(dims, name) for name in _SIZES},
        "stacks": [
            {
                "config": _portable(stack.config),
                "hyper": {
                    name: np.asarray(x).tolist() for name, x in stack.hyper._asdict().items()
                },
                "weights": stack.weights.tolist(),
            }
            for stack in stacks
        ],
    }
    files.write_json(folder / ARCHITECTURE, described)


def _portable(config: Config) -> dict[str, Any]:
    """A configuration without the paths of files, which the receiver of a model does not have."""
    return schema.to_mapping(
        dataclasses.replace(config, data=dataclasses.replace(config.data, path="", targets=""))
    )


def read(folder: Path) -> list[StackedMembers]:
    """Reads what :func:`write` wrote, also by an earlier version.

    Args:
      folder: the directory of an exported model.

    Raises:
      UserError: a file is missing or damaged, or the weights do not fit the architecture.
    """
    path = folder / ARCHITECTURE
    described = files.read_json(path, EXPORT_AGAIN)
    arrays = load_numpy(folder / WEIGHTS)
    try:
        dims = Dims(*(described["dims"][name] for name in _SIZES))
        given = [_described(stack, dims) for stack in described["stacks"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error!r}); {EXPORT_AGAIN}") from error
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    if not given or not isinstance(arrays, dict):
        raise UserError(f"{folder} holds no weights; {EXPORT_AGAIN}")
    return _with_params(given, arrays, folder / WEIGHTS)


def _described(stack: Mapping[str, Any], dims: Dims) -> StackedMembers:
    """A stack without its parameters.

    Raises:
      UserError: the configuration cannot be used, or a hyperparameter is unknown.
      KeyError, TypeError, ValueError: something is missing or has another form.
    """
    config = schema.from_mapping(schema.with_later(stack["config"]))
    setup.check(config, dims)
    weights = np.array(stack["weights"], np.float32)
    values = stack["hyper"]
    unknown = sorted(set(values) - set(Hyper._fields))
    if unknown:
        raise UserError(
            f"the hyperparameter {unknown[0]} is unknown; use a newer version of stndt_jax"
        )
    leaves = {}
    for name, default in schema.hyper(config)._asdict().items():
        # One that came later has the same value in all members.
        value = np.asarray(values.get(name, np.full(weights.shape, default[0])), default.dtype)
        if value.shape != weights.shape:
            raise ValueError(f"{name} has shape {value.shape}, but weights {weights.shape}")
        leaves[name] = jnp.asarray(value)
    arch = _inference(step.arch(config, dims, 1))
    return StackedMembers(config, arch, {}, Hyper(**leaves), weights)


def _with_params(
    stacks: list[StackedMembers], arrays: Mapping[str, NDArray], path: Path
) -> list[StackedMembers]:
    """The stacks with their parameters, checked against the shapes of newly initialised ones.

    Raises:
      UserError: parameters are missing, or there are others, or they have other shapes.
    """

    def initialised(arch: step.Arch, hyper: Hyper) -> Params:
        return _without_projectors(jax.vmap(lambda own: step.init(arch, own).params)(hyper))

    like = [
        stack._replace(
            params=jax.eval_shape(lambda h, a=stack.arch: initialised(a, h), stack.hyper)
        )
        for stack in stacks
    ]
    wanted = {name: leaf.shape for name, leaf in named_params(like).items()}
    wrong = [
        *(f"{name} is missing" for name in sorted(set(wanted) - set(arrays))),
        *(f"{name} is unknown" for name in sorted(set(arrays) - set(wanted))),
        *(
            f"{name} has shape {arrays[name].shape}, not {shape}"
            for name, shape in wanted.items()
            if name in arrays and arrays[name].shape != shape
        ),
    ]
    if wrong:
        raise UserError(
            f"{path} does not fit {ARCHITECTURE}: {', '.join(wrong)}; use the version of stndt_jax "
            f"and the classes that the model was exported with, or {EXPORT_AGAIN}"
        )
    tree = jax.tree.structure([stack.params for stack in like])
    params = jax.tree.unflatten(tree, [jnp.asarray(arrays[name]) for name in wanted])
    return [stack._replace(params=own) for stack, own in zip(stacks, params, strict=True)]


def _inference(arch: step.Arch) -> step.Arch:
    """The architecture of a program that assumes that every bin was recorded."""
    arch = step.inference(arch)
    return dataclasses.replace(arch, dims=dataclasses.replace(arch.dims, gaps=False))


def _without_projectors(params: Params) -> Params:
    """The parameters without the contrastive projectors, which do not affect rates."""
    return {name: tree for name, tree in params.items() if "projector" not in name}


def _stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _name(path: tuple[Any, ...], stacks: int) -> str:
    """The name of a parameter: its stack, if there are several, and its keys."""
    stack, *keys = path
    return ".".join([*([f"group_{stack.idx}"] if stacks > 1 else []), *(k.key for k in keys)])
