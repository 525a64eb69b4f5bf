"""Initialisation from the weights of another run.

For a run with the same architecture:

* **the same neurons** (further data): all weights are kept.
* **other neurons**: what belongs to single neurons is newly initialised, from the statistics of
  the new recording where the model starts from them: the embedder (read-in), the decoder
  (read-out), the token and the statistics themselves. The rest is kept where its shape allows.

In a model with factors nothing else has the neurons as an axis, so that all the rest is kept,
however many neurons there are, unless the number of bins differs.

In the paper's model the neurons are the width of the temporal stream. A learned table of their
positions belongs to them too. The temporal parts and all norms of x keep their shape only if the
number of neurons is the same. The spatial parts (embedder, queries and keys, their norm) have the
bins as their axes: their weights act on the bins of one neuron and are shared by all, so they fit
any number of neurons and are kept unless the number of bins differs.

``init.json`` in the run directory records the initialisation and what is frozen, so that a
resumed run needs no flags for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config, ModelConfig
from stndt_jax.errors import UserError
from stndt_jax.models.stndt import CONSTANTS
from stndt_jax.parallel import multihost
from stndt_jax.runs import directory, records
from stndt_jax.training import best_weights, population, restore, step
from stndt_jax.types import Dims, Params

_FILE = "init.json"


class Source(NamedTuple):
    """Another run: its configuration, sizes and best weights, best member first."""

    path: Path
    config: Config
    dims: Dims
    params: list[Params]


def source(path: Path) -> Source:
    """Reads a run directory's weights; its recording is not needed.

    Raises:
      UserError: it is no run directory, or no member was ever validated.
    """
    found = restore.read(path)
    best = found.members.selection.cobps
    usable = np.flatnonzero(np.asarray(best.epoch) > 0)
    if not usable.size:
        raise UserError(f"no member of {path} has been validated yet; train it further")
    ranked = usable[np.argsort(-np.nan_to_num(np.asarray(best.value))[usable], kind="stable")]
    params = [jax.tree.map(lambda x, k=k: np.asarray(x[k]), best.params) for k in ranked]
    return Source(path, found.config, found.dims, params)


def names(params: Params) -> dict[str, Any]:
    """Parameters by name: the keys on the way to them, joined by dots."""
    leaves, _ = jax.tree.flatten_with_path(params)
    return {".".join(str(k.key) for k in path): leaf for path, leaf in leaves}


def frozen(params: Params, parts: tuple[str, ...]) -> Params:
    """A tree like ``params``, true where a parameter is of a named part.

    Args:
      params: parameters or their shapes.
      parts: names of parameters, or beginnings of names up to a dot.

    Raises:
      UserError: a part names nothing, or the parts name everything.
    """
    known = names(params)
    for part in parts:
        if not any(_within(name, part) for name in known):
            tops = sorted({name.partition(".")[0] for name in known})
            raise UserError(f"freeze names {part}, which is no part; {configs.suggest(part, tops)}")
    chosen = [any(_within(name, part) for part in parts) for name in known]
    if all(chosen):
        raise UserError("freeze names every part, so that nothing would train; leave some out")
    return jax.tree.unflatten(jax.tree.structure(params), chosen)


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def of_neurons(model: ModelConfig) -> tuple[str, ...]:
    """What belongs to single neurons: beginnings of the names of parameters."""
    names = ("embedder", "decoder", "mask_token", "smooth_share", *CONSTANTS)
    # The rows of this table are the factors where there are some.
    return names if model.width else (*names, "spatial_position")


def transplant(theirs: Params, fresh: Params, anew: tuple[str, ...]) -> tuple[Params, list[str]]:
    """Fresh parameters with what can be kept of others.

    Args:
      theirs: parameters of another run's member.
      fresh: newly initialised ones.
      anew: beginnings of the names of what is not kept; empty for the same neurons.

    Returns:
      Parameters like ``fresh``, and the names of those that were kept.
    """
    given, kept, leaves = names(theirs), [], []
    for name, leaf in names(fresh).items():
        own = anew and name.startswith(anew)
        if not own and name in given and np.shape(given[name]) == np.shape(leaf):
            kept.append(name)
            leaves.append(jnp.asarray(given[name], leaf.dtype))
        else:
            leaves.append(leaf)
    return jax.tree.unflatten(jax.tree.structure(fresh), leaves), kept


def initialisation(
    path: Path, config: Config, dims: Dims, *, init: str, neurons: str, parts: tuple[str, ...]
) -> population.Initialisation | None:
    """The initialisation of a run directory's members.

    Args:
      path: the run directory, new or to be continued.
      config: what is to be trained.
      dims: sizes of its recording.
      init: run directory to take weights from; empty: as the run directory says.
      neurons: ``same`` or ``other``; empty: the same where there are as many of them.
      parts: what to freeze, by name.

    Returns:
      What ``loop.train`` takes, or None for new weights.

    Raises:
      UserError: the run was initialised otherwise, the other run has another architecture, none of
        its weights fits, or a frozen part is unknown.
    """
    begun = (path / "config.json").exists()
    if not init and not parts and not neurons and not (path / _FILE).exists():
        return None
    record: dict[str, Any] = {"init": init, "neurons": neurons, "frozen": list(parts)}
    if begun:
        before = records.read(path / _FILE) if (path / _FILE).exists() else {}
        if init and record != before:
            raise UserError(
                f"{path} was initialised otherwise ({before or 'newly'}); choose "
                f"another directory, or repeat its init, neurons and freeze to continue"
            )
        record = before
    if not record["init"]:
        raise UserError(
            "freeze and neurons need weights to begin with; give init (--init=DIR), the run that "
            "has them"
        )
    fresh, _ = population.abstract(config, step.arch(config, dims, 1))
    still = frozen(fresh.state.params, tuple(record["frozen"]))
    if begun:
        # Needed only where the run was interrupted before its first checkpoint.
        return population.Initialisation(
            apply=lambda members: _again(members, record, config, dims),
            frozen=still,
            sentence=f"training from the weights of {record['init']}, again",
        )
    found = source(Path(record["init"]))
    anew = _anew(found, record["neurons"], config, dims)
    one = jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:], leaf.dtype), fresh.state.params)
    _, kept = transplant(found.params[0], one, anew)
    if not kept:
        raise UserError(f"nothing of {found.path} fits these neurons and bins; train without init")
    if multihost.first():
        directory.check_free(path)
        directory.make(path)
        records.write(path / _FILE, record)
    fresh_parts = sorted({name.partition(".")[0] for name in set(names(one)) - set(kept)})
    sentence = (
        f"training from {len(kept)} of {len(names(one))} parameters of {found.path}; newly "
        f"initialised: {', '.join(fresh_parts) or 'nothing'}"
    )
    if record["frozen"]:
        sentence += f"; frozen: {', '.join(record['frozen'])}"
    return population.Initialisation(
        apply=lambda members: _begin(members, found, anew), frozen=still, sentence=sentence
    )


def _again(
    members: population.Member, record: Mapping[str, Any], config: Config, dims: Dims
) -> Any:
    found = source(Path(record["init"]))
    return _begin(members, found, _anew(found, record["neurons"], config, dims))


def _anew(found: Source, neurons: str, config: Config, dims: Dims) -> tuple[str, ...]:
    """What is not kept of another run, as for `transplant`: nothing if it is of the same neurons.

    Raises:
      UserError: it cannot be, or is of another architecture.
    """
    differing = directory.differences(found.config, config)
    differing = [one for one in differing if one.split(":")[0] in configs.MEANING]
    if differing:
        raise UserError(
            f"{found.path} has another architecture (config.{'; config.'.join(differing)}); set "
            f"the same to begin with its weights"
        )
    as_many = (dims.heldin, dims.heldout) == (found.dims.heldin, found.dims.heldout)
    if neurons == "same" and not as_many:
        raise UserError(
            f"neurons is same, but {found.path} has {found.dims.heldin} + {found.dims.heldout} "
            f"neurons and this recording {dims.heldin} + {dims.heldout}; give neurons=other"
        )
    return () if as_many and neurons != "other" else of_neurons(config.model)


def _begin(members: population.Member, found: Source, anew: tuple[str, ...]) -> population.Member:
    """Member k gets the weights of the other run's k-th best member, cyclically."""
    fresh = members.state.params
    K = jax.tree.leaves(fresh)[0].shape[0]
    each = [
        transplant(
            found.params[k % len(found.params)],
            jax.tree.map(lambda x, k=k: x[k], fresh),
            anew,
        )[0]
        for k in range(K)
    ]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    chosen = jax.jit(jax.vmap(best_weights.init))(params)
    return members._replace(state=members.state._replace(params=params), selection=chosen)
