"""Import of checkpoints of the published PyTorch code as run directories of this library.

A checkpoint becomes a population of one member, a folder of checkpoints a larger population. The
published configuration is translated; keys that do not concern the published code, such as those
of devices and checkpoints, are as in ``configs/default.py``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax import files
from stndt_jax.config import loading
from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config, Hyper
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.interop import torch_params, torch_pickle
from stndt_jax.interop.torch_params import Option
from stndt_jax.parallel import lifts
from stndt_jax.runs import directory, records
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.training import best_weights, population, setup, step
from stndt_jax.types import Array, Dims, Float, NDArray, Params

# Published options outside torch_params.MODEL_OPTIONS -> keys of this library.
_OPTIONS = {
    "SEED": Option("seed"),
    "MODEL.FIXUP_INIT": Option("model.tfixup", bool),
    "MODEL.DROPOUT": Option("model.dropout"),
    "MODEL.DROPOUT_RATES": Option("model.dropout_rates"),
    "MODEL.DROPOUT_EMBEDDING": Option("model.dropout_embedding"),
    "TRAIN.MASK_MODE": Option("mask.mode"),
    "TRAIN.MASK_RATIO": Option("mask.ratio"),
    "TRAIN.MASK_TOKEN_RATIO": Option("mask.token_ratio"),
    "TRAIN.MASK_RANDOM_RATIO": Option("mask.random_ratio"),
    "TRAIN.MASK_MAX_SPAN": Option("mask.max_span"),
    "TRAIN.MASK_SPAN_RAMP_START": Option("mask.ramp_start"),
    "TRAIN.MASK_SPAN_RAMP_END": Option("mask.ramp_end"),
    "TRAIN.DO_CONTRAST": Option("contrast.enabled", bool),
    "TRAIN.CONTRAST_MASK_RATIO": Option("contrast.ratio"),
    "TRAIN.CONTRAST_MASK_TOKEN_RATIO": Option("contrast.token_ratio"),
    "TRAIN.CONTRAST_MASK_RANDOM_RATIO": Option("contrast.random_ratio"),
    "TRAIN.MAX_GRAD_NORM": Option("optimizer.clip_norm"),
    "TRAIN.LR.INIT": Option("optimizer.learning_rate"),
    "TRAIN.LR.WARMUP": Option("optimizer.warmup_epochs"),
    "TRAIN.WEIGHT_DECAY": Option("optimizer.weight_decay"),
    "TRAIN.NUM_UPDATES": Option("train.epochs"),
    "TRAIN.BATCH_SIZE": Option("train.batch"),
    "TRAIN.VAL_INTERVAL": Option("train.validate_every"),
    "TRAIN.PATIENCE": Option("train.patience"),
}
# What the published code does, for which it has no option.
_PUBLISHED = {
    "mask.token": "zero",
    "mask.inference": "unmasked",
    "mask.grow_full": False,
    "contrast.start_epoch": 0.0,
}
# Options of the section MODEL that are in a section of their own there.
_NESTED = {"POSITION_OFFSET": "POSITION.OFFSET"}
_SCHEDULES = {"cosine": "cosine", "invsqrt": "inverse_sqrt"}
# Options that the published STNDT declares, but with which it fails at other values. The last one
# fails when the model is built, because the decoder's list of layers has another name.
_RUNS_WITH: dict[str, tuple[Any, ...]] = {
    "MODEL.NAME": ("NeuralDataTransformer", "STNDT"),
    "MODEL.LINEAR_EMBEDDER": (True,),
    "MODEL.LOGRATE": (True,),
    "MODEL.REQUIRES_RATES": (False,),
    "MODEL.CONTEXT_WRAP_INITIAL": (False,),
    "MODEL.SPIKE_LOG_INIT": (False,),
    "MODEL.LOSS.TYPE": ("poisson",),
    "MODEL.DECODER.LAYERS": (1,),
}
# Parameters that the original NDT has under other names than STNDT.
_NDT_NAMES = {
    "embedder.weight": "embedder.0.weight",
    "embedder.bias": "embedder.0.bias",
    "pos_encoder.pe": "src_pos_encoder.pe",
    "pos_encoder.pos_embedding.weight": "src_pos_encoder.pos_embedding.weight",
    "decoder.0.weight": "src_decoder.0.weight",
    "decoder.0.bias": "src_decoder.0.bias",
}
# Values of options that NDT does not have: no contrastive loss.
_NDT_CONTRAST = {
    "MODEL.TEMPERATURE": 0.07,
    "MODEL.LAMBDA": 0.0,
    "MODEL.USE_CONTRAST_PROJECTOR": False,
    "MODEL.LINEAR_PROJECTOR": False,
    "MODEL.CONTRAST_LAYER": "embedder",
    "TRAIN.DO_CONTRAST": False,
    "TRAIN.CONTRAST_MASK_RATIO": 0.0,
    "TRAIN.CONTRAST_MASK_TOKEN_RATIO": 1.0,
    "TRAIN.CONTRAST_MASK_RANDOM_RATIO": 0.0,
}


class TorchCheckpoint(NamedTuple):
    """A checkpoint of the published code.

    Attributes:
      path: the file.
      config: its configuration, translated.
      state: its parameters by published name.
      epoch: the number of epochs that it was trained.
      cobps: its best validation co-bps, bits per spike; NaN if it does not contain it.
      loss: its best validation loss; NaN if it does not contain it.
    """

    path: Path
    config: Config
    state: dict[str, NDArray]
    epoch: int
    cobps: float
    loss: float


def read(path: Path) -> TorchCheckpoint:
    """Reads a checkpoint and translates its configuration.

    Args:
      path: a file that ``torch.save`` wrote.

    Raises:
      UserError: the file is not a checkpoint of STNDT or NDT, or has options with which the
        published code does not run.
    """
    found = torch_pickle.read(path)
    try:
        for key in ("state_dict", "config"):
            if not isinstance(found.get(key), dict):
                raise UserError(f"holds no {key}; a checkpoint of STNDT or NDT has one")
        state = _state(found["state_dict"])
        spatial = any("spatial_" in name or ".ts_" in name for name in state)
        if not spatial:
            state = {_NDT_NAMES.get(name, name): value for name, value in state.items()}
        config = _config(found["config"], spatial)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if not config.contrast.enabled:
        state = {name: x for name, x in state.items() if "projector." not in name}
    extra = found.get("extra_state")
    update = extra.get("update") if isinstance(extra, dict) else None
    return TorchCheckpoint(
        path=path,
        config=config,
        state=state,
        epoch=update if isinstance(update, int) and update > 0 else 1,
        cobps=_best(found, "best_cobps"),
        loss=_best(found, "best_val"),
    )


def _best(found: Mapping[str, Any], key: str) -> float:
    """A best value so far, as the published code stores it; NaN if there is none."""
    best = found.get(key)
    value = best.get("value") if isinstance(best, dict) else best
    is_number = isinstance(value, (int, float, np.ndarray)) and np.size(value) == 1
    return float(np.asarray(value).reshape(())) if is_number else float("nan")


def _state(given: Mapping[Any, Any]) -> dict[str, NDArray]:
    """The parameters by name, checked for numbers that are not finite."""
    state: dict[str, NDArray] = {}
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise UserError(
                f"state_dict holds {name!r}, which is not a named tensor; is it of STNDT or NDT?"
            )
        # Data-parallel training puts the module's name before every other.
        state[name.removeprefix("module.")] = value
    broken = [name for name, x in state.items() if x.dtype.kind == "f" and not np.isfinite(x).all()]
    if broken:
        raise UserError(
            f"{', '.join(broken)} hold numbers that are not finite: the run diverged; take another "
            "checkpoint"
        )
    return state


def _config(published: Mapping[str, Any], spatial: bool) -> Config:
    """Translates a published configuration to one of this library, a population of one."""
    get = functools.partial(_option, published, spatial)
    _check_options(get)
    start = loading.load(["--config=default"])
    names = (*torch_params.MODEL_OPTIONS, *torch_params.PROJECTOR_OPTIONS)
    options = {name: get(f"MODEL.{_NESTED.get(name, name)}") for name in names}
    model, contrast = torch_params.options(options, start.model, start.contrast)
    values = configs.to_mapping(dataclasses.replace(start, model=model, contrast=contrast))
    for name, option in _OPTIONS.items():
        section, _, key = option.key.rpartition(".")
        (values[section] if section else values)[key] = option.translate(get(name))
    for name, value in _PUBLISHED.items():
        section, key = name.split(".")
        values[section][key] = value
    values["model"]["spatial"] = spatial
    schedule = _SCHEDULES[get("TRAIN.LR.SCHEDULER")] if get("TRAIN.LR.SCHEDULE") else "constant"
    values["optimizer"]["schedule"] = schedule
    return configs.from_mapping(values)


def _option(published: Mapping[str, Any], spatial: bool, name: str) -> Any:
    """The value of an option by its dotted name; the contrastive ones have defaults for NDT."""
    node: Any = published
    for part in name.split("."):
        if not isinstance(node, Mapping) or part not in node:
            if not spatial and name in _NDT_CONTRAST:
                return _NDT_CONTRAST[name]
            raise UserError(f"its configuration lacks {name}; is it of STNDT or NDT?")
        node = node[part]
    return node


def _check_options(get: Callable[[str], Any]) -> None:
    """Raises UserError for options with which the published code does not run."""
    for name, values in _RUNS_WITH.items():
        if get(name) not in values:
            raise UserError(
                f"{name} is {get(name)!r}, an option that the published code declares but cannot "
                f"run with; only {values[0]!r} can be imported"
            )
    # The spatial projector would be called when the model is built.
    if get("MODEL.USE_CONTRAST_PROJECTOR") and not get("MODEL.LINEAR_PROJECTOR"):
        raise UserError(
            "MODEL.LINEAR_PROJECTOR is False with MODEL.USE_CONTRAST_PROJECTOR, an option that the "
            "published code declares but cannot run with; only True can be imported"
        )
    scheduler = get("TRAIN.LR.SCHEDULER")
    if scheduler not in _SCHEDULES:
        raise UserError(
            f"TRAIN.LR.SCHEDULER is {scheduler!r}; only {' and '.join(_SCHEDULES)} can be imported"
        )


def population_config(checkpoints: list[TorchCheckpoint]) -> Config:
    """The configuration of several checkpoints as one population.

    Hyperparameters may differ between members. Keys that only concern training (batch, epochs,
    mask mode) are those of the first checkpoint; inference does not depend on them.

    Args:
      checkpoints: the members, one or more.

    Raises:
      UserError: their architectures differ.
    """
    first = checkpoints[0].config
    hyper_keys = {key for key, _ in configs.HYPER_FIELDS.values()}
    for other in checkpoints[1:]:
        differing = [
            line
            for line in directory.differences(first, other.config)
            if line.startswith(("model.", "contrast.")) and line.partition(":")[0] not in hyper_keys
        ]
        if differing:
            raise UserError(
                f"{checkpoints[0].path} and {other.path} differ in {'; '.join(differing)}; one "
                f"population has one architecture: import them into different directories"
            )
    members: dict[str, tuple[float, ...]] = {}
    for name, (key, _) in configs.HYPER_FIELDS.items():
        section, leaf = key.split(".")
        values = tuple(getattr(getattr(c.config, section), leaf) for c in checkpoints)
        if len(set(values)) > 1:
            members[name] = values
    members["seed"] = tuple(c.config.seed for c in checkpoints)
    merged = dataclasses.replace(first, population=len(checkpoints), members=members)
    return configs.from_mapping(configs.to_mapping(merged))


def find(path: Path) -> list[Path]:
    """The checkpoint itself, or the checkpoints in a folder, in the order of their names.

    Args:
      path: a checkpoint or a folder.

    Raises:
      UserError: the folder holds none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix in (".pth", ".pt"))
    if not found:
        raise UserError(
            f"{path} holds no .pth or .pt file; name a checkpoint, or a folder of checkpoints"
        )
    return found


def import_run(path: Path, data: SpikeData, data_path: str, targets: str, out: Path) -> Config:
    """Makes a run directory from a checkpoint, or from a folder of checkpoints.

    The weights of each member become its best by co-bps, its best by loss, and its last ones. Its
    validation co-bps is measured on the evaluated trials if these have held-out counts; otherwise
    it is the value in the checkpoint.

    Args:
      path: a checkpoint, or a folder of checkpoints.
      data: the recording on which they were trained.
      data_path: file of the recording, for the new configuration.
      targets: target file of the recording, for the new configuration.
      out: the run directory to make.

    Returns:
      The configuration of the run.

    Raises:
      UserError: a checkpoint cannot be read or run, does not fit the data or the other
        checkpoints, or the directory already holds a run.
    """
    checkpoints = [read(file) for file in find(path)]
    merged = population_config(checkpoints)
    config = dataclasses.replace(
        merged, data=dataclasses.replace(merged.data, path=data_path, targets=targets)
    )
    config = _selecting(config, data)
    # Before the other checks: here every parameter that does not fit the data is named.
    params = _parameters(checkpoints, config, data.dims)
    if (out / "config.json").exists():
        raise UserError(f"{out} holds a run already; choose another --out")
    prepared = setup.prepare(config, data)
    arch, hyper = prepared.arch, jax.tree.map(jnp.asarray, prepared.hyper)
    cobps = jnp.asarray([c.cobps for c in checkpoints], jnp.float32)
    loss = jnp.asarray([c.loss for c in checkpoints], jnp.float32)
    if prepared.valid is not None and data.eval.heldout is not None:
        cobps, loss = _scores(arch, config.train.batch, params, hyper, prepared.valid)

    epoch = jnp.asarray([c.epoch for c in checkpoints], jnp.int32)
    # All members of a population are at the same step.
    at = int(epoch.max()) * arch.steps_per_epoch
    members = population.make_init(arch)(hyper)
    state = members.state._replace(params=params, step=jnp.full_like(members.state.step, at))
    selection = best_weights.Selection(
        best_weights.Best(cobps, epoch, params), best_weights.Best(loss, epoch, params)
    )
    imported = members._replace(state=state, selection=selection)
    with files.filling(out, last="config.json") as folder:
        directory.open_run(folder, config, data)
        Checkpoints(folder / "checkpoints").save(at, imported)
        directory.note_end(folder, "imported")
        records.write(folder / "imported.json", {"members": [_origin(c) for c in checkpoints]})
    return config


def _selecting(config: Config, data: SpikeData) -> Config:
    """A configuration that keeps trials for validation only if there are enough.

    Nothing is trained here; such trials would only serve to compare members.
    """
    trials = len(data.train)
    held = round(trials * config.data.validation_fraction)
    if data.eval.heldout is not None or 0 < held < trials:
        return config
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, validation_fraction=0.0)
    )


def _parameters(checkpoints: list[TorchCheckpoint], config: Config, dims: Dims) -> Params:
    """The parameters of all members, leaves with a leading axis K."""
    found = []
    for checkpoint in checkpoints:
        try:
            found.append(
                torch_params.parameters(checkpoint.state, config.model, config.contrast, dims)
            )
        except UserError as error:
            raise UserError(f"{checkpoint.path}: {error}") from None
    stacked: Params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
    return stacked


def _scores(
    arch: step.Arch, batch: int, params: Params, hyper: Hyper, valid: step.Batch
) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """Validation co-bps (bits per spike) and masked loss of every member."""
    scores = lifts.over_batches(functools.partial(step.evaluate_step, arch), batch)
    sums = jax.jit(lifts.over_members(scores, shared=1))(params, hyper, valid)
    values = jax.vmap(lambda sums: sums.values())(sums)
    return values["cobps"], values["masked_loss"]


def _origin(checkpoint: TorchCheckpoint) -> dict[str, Any]:
    """Where a member came from, for ``imported.json``."""
    return {
        "file": str(checkpoint.path),
        "sha256": files.sha256(checkpoint.path),
        "epoch": checkpoint.epoch,
        "stated_co_bps": checkpoint.cobps,
    }
