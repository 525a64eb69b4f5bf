"""Checkpoints of the published PyTorch code as a run directory of this library.

One checkpoint becomes a population of one, a folder of them a population. What the published
configuration says is translated; the rest is as in ``configs/default.py``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax import files
from stndt_jax.config import loading
from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.interop import torch_params, torch_pickle
from stndt_jax.parallel import lifts
from stndt_jax.runs import directory
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.training import batches, best_weights, population, step
from stndt_jax.types import NDArray, Params

# Options that the published STNDT declares and fails with, and the values that it runs with. The
# last two stop it as soon as a model is made: the decoder's list has another name, and the spatial
# projector is called where it is to be listed.
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
# The original NDT's names of what STNDT took over under others.
_NDT_NAMES = {
    "embedder.weight": "embedder.0.weight",
    "embedder.bias": "embedder.0.bias",
    "pos_encoder.pe": "src_pos_encoder.pe",
    "pos_encoder.pos_embedding.weight": "src_pos_encoder.pos_embedding.weight",
    "decoder.0.weight": "src_decoder.0.weight",
    "decoder.0.bias": "src_decoder.0.bias",
}
# What NDT knows nothing of, as its published configurations would have it.
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
_SCHEDULES = {"cosine": "cosine", "invsqrt": "inverse_sqrt"}


class Checkpoint(NamedTuple):
    """One file: its configuration and weights, and how good it says they are."""

    path: Path
    config: Config
    state: dict[str, NDArray]
    epoch: int
    cobps: float
    loss: float


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint and translates its configuration.

    Raises:
      UserError: it is no checkpoint of STNDT or NDT, or of one that cannot be run.
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
    epoch = update if isinstance(update, int) and update > 0 else 1
    return Checkpoint(
        path, config, state, epoch, _best(found, "best_cobps"), _best(found, "best_val")
    )


def _best(found: Mapping[str, Any], key: str) -> float:
    """A best value so far as the published code keeps it; NaN where it does not."""
    best = found.get(key)
    value = best.get("value") if isinstance(best, dict) else best
    known = isinstance(value, (int, float, np.ndarray)) and np.size(value) == 1
    return float(np.asarray(value).reshape(())) if known else float("nan")


def _state(given: Mapping[Any, Any]) -> dict[str, NDArray]:
    state: dict[str, NDArray] = {}
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise UserError(f"state_dict holds {name!r}, which is no tensor with a name")
        # Data-parallel training puts the module's name before every other.
        state[name.removeprefix("module.")] = value
    broken = [name for name, x in state.items() if x.dtype.kind == "f" and not np.isfinite(x).all()]
    if broken:
        raise UserError(f"{', '.join(broken)} hold what is no finite number; the run diverged")
    return state


def _config(published: Mapping[str, Any], spatial: bool) -> Config:
    """A published configuration as one of this library, of a population of one."""

    def get(name: str) -> Any:
        node: Any = published
        for part in name.split("."):
            if not isinstance(node, Mapping) or part not in node:
                if not spatial and name in _NDT_CONTRAST:
                    return _NDT_CONTRAST[name]
                raise UserError(f"its configuration lacks {name}; is it of STNDT or NDT?")
            node = node[part]
        return node

    for name, values in _RUNS_WITH.items():
        if get(name) not in values:
            raise UserError(
                f"{name} is {get(name)!r}, an option that the published code declares but cannot "
                f"run with; only {values[0]!r} is imported"
            )
    if get("MODEL.USE_CONTRAST_PROJECTOR") and not get("MODEL.LINEAR_PROJECTOR"):
        raise UserError(
            "MODEL.LINEAR_PROJECTOR is False with MODEL.USE_CONTRAST_PROJECTOR, an option that the "
            "published code declares but cannot run with; only True is imported"
        )
    scheduler = get("TRAIN.LR.SCHEDULER")
    if scheduler not in _SCHEDULES:
        raise UserError(f"TRAIN.LR.SCHEDULER is {scheduler!r}; known are {', '.join(_SCHEDULES)}")
    start = loading.load(["--config=default"])
    names = ("CONTEXT_FORWARD CONTEXT_BACKWARD FULL_CONTEXT NUM_HEADS NUM_LAYERS HIDDEN_SIZE "
             "ACTIVATION PRE_NORM SCALE_NORM LEARNABLE_POSITION TEMPERATURE LAMBDA "
             "USE_CONTRAST_PROJECTOR LINEAR_PROJECTOR CONTRAST_LAYER")  # fmt: skip
    options = {name: get(f"MODEL.{name}") for name in names.split()}
    options["POSITION_OFFSET"] = get("MODEL.POSITION.OFFSET")
    model, contrast = torch_params.options(options, start.model, start.contrast)
    made = dataclasses.replace(
        start,
        seed=get("SEED"),
        model=dataclasses.replace(
            model,
            spatial=spatial,
            tfixup=bool(get("MODEL.FIXUP_INIT")),
            dropout=get("MODEL.DROPOUT"),
            dropout_rates=get("MODEL.DROPOUT_RATES"),
            dropout_embedding=get("MODEL.DROPOUT_EMBEDDING"),
        ),
        mask=dataclasses.replace(
            start.mask,
            mode=get("TRAIN.MASK_MODE"),
            ratio=get("TRAIN.MASK_RATIO"),
            token_ratio=get("TRAIN.MASK_TOKEN_RATIO"),
            random_ratio=get("TRAIN.MASK_RANDOM_RATIO"),
            max_span=get("TRAIN.MASK_MAX_SPAN"),
            ramp_start=get("TRAIN.MASK_SPAN_RAMP_START"),
            ramp_end=get("TRAIN.MASK_SPAN_RAMP_END"),
        ),
        contrast=dataclasses.replace(
            contrast,
            enabled=bool(get("TRAIN.DO_CONTRAST")),
            ratio=get("TRAIN.CONTRAST_MASK_RATIO"),
            token_ratio=get("TRAIN.CONTRAST_MASK_TOKEN_RATIO"),
            random_ratio=get("TRAIN.CONTRAST_MASK_RANDOM_RATIO"),
        ),
        optimizer=dataclasses.replace(
            start.optimizer,
            schedule=_SCHEDULES[scheduler] if get("TRAIN.LR.SCHEDULE") else "constant",
            clip_norm=get("TRAIN.MAX_GRAD_NORM"),
            learning_rate=get("TRAIN.LR.INIT"),
            weight_decay=get("TRAIN.WEIGHT_DECAY"),
            warmup_epochs=get("TRAIN.LR.WARMUP"),
        ),
        train=dataclasses.replace(
            start.train,
            epochs=get("TRAIN.NUM_UPDATES"),
            batch=get("TRAIN.BATCH_SIZE"),
            validate_every=get("TRAIN.VAL_INTERVAL"),
            patience=get("TRAIN.PATIENCE"),
        ),
    )
    return configs.from_mapping(configs.to_mapping(made))


def together(checkpoints: list[Checkpoint]) -> Config:
    """The configuration of several checkpoints as one population.

    What may differ between members does. What concerns training alone (batch, epochs, mode of
    masking) is the first one's; nothing that is inferred depends on it.

    Raises:
      UserError: they are of different architectures.
    """
    first = checkpoints[0].config
    for other in checkpoints[1:]:
        may = {key for key, _ in configs.HYPER_FIELDS.values()}
        differing = [
            line
            for line in directory.differences(first, other.config)
            if line.startswith(("model.", "contrast.")) and line.partition(":")[0] not in may
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
    """A checkpoint, or those of a folder in the order of their names.

    Raises:
      UserError: there is none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix in (".pth", ".pt"))
    if not found:
        raise UserError(f"{path} holds no .pth or .pt file; name a checkpoint, or their folder")
    return found


def bring(path: Path, data: SpikeData, data_path: str, targets: str, out: Path) -> Config:
    """Makes a run directory of a checkpoint, or of a folder of checkpoints.

    Each member's weights count as its best by co-bps, its best by loss and its last. Its
    validation co-bps is measured on the evaluated trials where their held-out counts are known,
    and is otherwise what the checkpoint says of itself.

    Args:
      path: checkpoint, or folder of checkpoints.
      data: the recording they were trained on.
      data_path: its file, which the new configuration names.
      targets: its target file, likewise.
      out: the run directory to make.

    Returns:
      The configuration of the run.

    Raises:
      UserError: a checkpoint cannot be read or run, does not fit the data or the others, or the
        directory already holds a run.
    """
    checkpoints = [read(file) for file in find(path)]
    merged = together(checkpoints)
    config = dataclasses.replace(
        merged,
        data=dataclasses.replace(merged.data, path=data_path, targets=targets),
    )
    dims = batches.dims_of(data)
    # Weights first: what does not fit the data shows there, key by key.
    weights = []
    for checkpoint in checkpoints:
        try:
            weights.append(
                torch_params.parameters(checkpoint.state, config.model, config.contrast, dims)
            )
        except UserError as error:
            raise UserError(f"{checkpoint.path}: {error}") from None
    configs.check_dims(config, dims)
    if (out / "config.json").exists():
        raise UserError(f"{out} holds a run already; choose another --out")
    trainable, valid, _ = batches.split(config, data)
    R = trainable.counts.shape[0]
    arch = step.arch(config, dims, max(R // batches.batch_size(config, R), 1))
    hyper = jax.tree.map(jnp.asarray, configs.hyper(config))
    params: Params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)
    cobps = jnp.asarray([c.cobps for c in checkpoints], jnp.float32)
    loss = jnp.asarray([c.loss for c in checkpoints], jnp.float32)
    if valid is not None and data.eval.heldout is not None:
        scores = lifts.over_batches(functools.partial(step.evaluate_step, arch), config.train.batch)
        found = jax.jit(lifts.over_members(scores, shared=1))(params, hyper, valid)
        values = jax.vmap(lambda sums: sums.values())(found)
        cobps, loss = values["cobps"], values["masked_loss"]

    directory.make(out)
    directory.open_run(out, config, data)
    epoch = jnp.asarray([c.epoch for c in checkpoints], jnp.int32)
    # All members of a population are at the same step.
    at = int(epoch.max()) * arch.steps_per_epoch
    members = population.make_init(arch)(hyper)
    steps = jnp.full_like(members.state.step, at)
    state = members.state._replace(params=params, step=steps)
    chosen = best_weights.Selection(
        best_weights.Best(cobps, epoch, params), best_weights.Best(loss, epoch, params)
    )
    whole = members._replace(state=state, selection=chosen)
    Checkpoints(out / "checkpoints").save(at, whole)
    directory.note_end(out, "imported")
    files.write_json(out / "imported.json", [_origin(c) for c in checkpoints])
    return config


def _origin(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where a member came from, for ``imported.json``."""
    return {
        "file": str(checkpoint.path),
        "sha256": files.sha256(checkpoint.path),
        "epoch": checkpoint.epoch,
        "stated co-bps": checkpoint.cobps,
    }
