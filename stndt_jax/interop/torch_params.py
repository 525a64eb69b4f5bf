"""Options and parameters of the published PyTorch models in the terms of this library."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax.config.schema import ContrastConfig, ModelConfig
from stndt_jax.errors import UserError
from stndt_jax.models.stndt import STNDT
from stndt_jax.types import Dims, NDArray, Params


def _choice(if_true: str, if_false: str) -> Callable[[Any], str]:
    return lambda value: if_true if value else if_false


class Option(NamedTuple):
    """A key of this library's configuration, and how a published value becomes its value."""

    key: str
    translate: Callable[[Any], Any] = lambda value: value


# Options in the section MODEL of a published configuration.
MODEL_OPTIONS = {
    "NUM_LAYERS": Option("model.layers"),
    "NUM_HEADS": Option("model.heads"),
    "HIDDEN_SIZE": Option("model.feedforward"),
    "PRE_NORM": Option("model.norm", _choice("pre", "post")),
    "SCALE_NORM": Option("model.final_norm", _choice("scale", "layer")),
    "ACTIVATION": Option("model.activation"),
    "LEARNABLE_POSITION": Option("model.position", _choice("learned", "sinusoidal")),
    "POSITION_OFFSET": Option("model.position_offset", bool),
    "FULL_CONTEXT": Option("model.full_context", bool),
    "CONTEXT_FORWARD": Option("model.context_forward"),
    "CONTEXT_BACKWARD": Option("model.context_backward"),
    "CONTRAST_LAYER": Option("contrast.layer", str),
    "TEMPERATURE": Option("contrast.temperature"),
    "LAMBDA": Option("contrast.weight"),
}
# What the published model does, for which it has no option.
_PUBLISHED = {
    "network": "stndt",
    "temporal_attention": "dot_product",
    "spatial_attention": "dot_product",
    "width": 0,
    "input": "counts",
    "smooth": 0.0,
    "rate_start": "zero",
}
# These two together are contrast.projector.
PROJECTOR_OPTIONS = ("USE_CONTRAST_PROJECTOR", "LINEAR_PROJECTOR")


def options(
    published: Mapping[str, Any], model: ModelConfig, contrast: ContrastConfig
) -> tuple[ModelConfig, ContrastConfig]:
    """Translates the model options of a published configuration.

    Args:
      published: values of ``MODEL_OPTIONS`` and ``PROJECTOR_OPTIONS`` by name.
      model: values that the published model does not determine (``spatial``, dropout, ``dtype``).
      contrast: likewise (mask ratios of the views).

    Returns:
      The two sections, which describe the same model as the published options.
    """
    changes: dict[str, dict[str, Any]] = {"model": dict(_PUBLISHED), "contrast": {}}
    for name, option in MODEL_OPTIONS.items():
        section, key = option.key.split(".")
        changes[section][key] = option.translate(published[name])
    uses_projector, is_linear = (published[name] for name in PROJECTOR_OPTIONS)
    kind = "linear" if is_linear else "mlp"
    changes["contrast"]["projector"] = kind if uses_projector else "none"
    return (
        dataclasses.replace(model, **changes["model"]),
        dataclasses.replace(contrast, **changes["contrast"]),
    )


def published_modules(
    model: ModelConfig, contrast: ContrastConfig
) -> dict[tuple[str, ...], tuple[str, str]]:
    """The modules of a model under both names.

    Returns:
      The path of each module in the parameters of this library -> its published name and its
      kind: ``linear``, ``layer_norm``, ``scale_norm``, ``table`` (of positions), ``attention``
      (queries, keys and values in one matrix) or ``queries and keys``.
    """
    modules: dict[tuple[str, ...], tuple[str, str]] = {
        ("embedder",): ("embedder.0", "linear"),
        ("decoder",): ("src_decoder.0", "linear"),
        ("final_norm",): ("transformer_encoder.norm", f"{model.final_norm}_norm"),
    }
    if model.position == "learned":
        modules[("position",)] = ("src_pos_encoder.pos_embedding", "table")
    if model.spatial:
        modules[("spatial_embedder",)] = ("spatial_embedder.0", "linear")
        if model.position == "learned":
            modules[("spatial_position",)] = ("spatial_pos_encoder.pos_embedding", "table")
    if contrast.enabled and contrast.projector != "none":
        projectors = ["projector"]
        if model.spatial and contrast.layer == "embedder":
            projectors.append("spatial_projector")
        for name in projectors:
            if contrast.projector == "linear":
                modules[(name, "out")] = (name, "linear")
            else:
                modules[(name, "in")] = (f"{name}.0", "linear")
                modules[(name, "out")] = (f"{name}.2", "linear")
    for i in range(model.layers):
        for path, (name, kind) in _layer_modules(model).items():
            modules[(f"layers_{i}", *path)] = (f"transformer_encoder.layers.{i}.{name}", kind)
    return modules


def _layer_modules(model: ModelConfig) -> dict[tuple[str, ...], tuple[str, str]]:
    """The modules of one layer, as in ``published_modules``."""
    modules = {
        ("temporal", "qkv"): ("self_attn", "attention"),
        ("temporal", "out"): ("self_attn.out_proj", "linear"),
        ("feedforward", "in"): ("linear1", "linear"),
        ("feedforward", "out"): ("linear2", "linear"),
        ("norm1",): ("norm1", "layer_norm"),
        ("norm2",): ("norm2", "layer_norm"),
    }
    if model.spatial:
        modules |= {
            ("spatial", "qk"): ("spatial_self_attn", "queries and keys"),
            ("feedforward_spatial", "in"): ("ts_linear1", "linear"),
            ("feedforward_spatial", "out"): ("ts_linear2", "linear"),
            ("norm3",): ("ts_norm1", "layer_norm"),
            ("norm4",): ("ts_norm2", "layer_norm"),
        }
        if model.norm == "pre":
            modules[("norm_spatial",)] = ("spatial_norm1", "layer_norm")
    return modules


# Published parameters on which the output of the model does not depend.
_IDLE = re.compile(
    r"(src|spatial)_pos_encoder\.pe|.*\.spatial_self_attn\.out_proj\..*|.*\.spatial_norm1\..*"
    r"|spatial_projector\..*"
)
# Parameters of a spatio-temporal model that NDT does not have.
_SPATIAL = re.compile(r"spatial_.*|.*\.(spatial_|ts_).*")


def parameters(
    state: Mapping[str, NDArray], model: ModelConfig, contrast: ContrastConfig, dims: Dims
) -> Params:
    """Converts parameters of the published model to those of ``STNDT``.

    Also converts gradients, which have the same names. The value and output projections of the
    published spatial attention are unused and are dropped.

    Args:
      state: arrays by published name.
      model: architecture.
      contrast: the contrastive projectors.
      dims: sizes of a trial.

    Raises:
      UserError: parameters are missing, unexpected or of another shape; all are listed.
    """
    modules = published_modules(model, contrast)
    shapes = _shapes(model, contrast, dims)
    needed: dict[str, tuple[int, ...]] = {}
    for path, (name, kind) in modules.items():
        needed |= _published_shapes(name, kind, functools.reduce(lambda t, k: t[k], path, shapes))
    _check(state, needed, model, dims)
    params: Params = {}
    for path, (name, kind) in modules.items():
        inner = params
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = _leaves(name, kind, state, dims.bins)
    return params


def _check(
    state: Mapping[str, NDArray],
    needed: Mapping[str, tuple[int, ...]],
    model: ModelConfig,
    dims: Dims,
) -> None:
    """Raises UserError unless the published parameters are those that are needed."""
    missing = sorted(needed.keys() - state.keys())
    extra = sorted(name for name in state.keys() - needed.keys() if not _IDLE.fullmatch(name))
    if not model.spatial:
        extra = [name for name in extra if not _SPATIAL.fullmatch(name)]
    wrong = [
        f"{name} {np.shape(state[name])} instead of {shape}"
        for name, shape in needed.items()
        if name in state and np.shape(state[name]) != shape
    ]
    faults = []
    if missing:
        faults.append(f"lacks {', '.join(missing)}")
    if extra:
        faults.append(f"holds {', '.join(extra)}, which this model does not have")
    if wrong:
        faults.append(
            f"has shapes that do not fit {dims.bins} bins and {dims.neurons} neurons "
            f"({', '.join(wrong)})"
        )
    if faults:
        raise UserError(
            f"the checkpoint {'; it '.join(faults)}; check that it belongs to this model and this "
            "recording"
        )


def _leaves(published: str, kind: str, state: Mapping[str, NDArray], bins: int) -> Any:
    """The parameters of one module in this library's layout."""

    def get(name: str) -> NDArray:
        return np.asarray(state[f"{published}.{name}"], np.float32)

    if kind == "linear":
        return {"kernel": get("weight").T, "bias": get("bias")}
    if kind == "layer_norm":
        return {"scale": get("weight"), "bias": get("bias")}
    if kind == "scale_norm":
        return {"scale": get("scale").reshape(())}
    if kind == "table":
        return get("weight")
    used = slice(0, 2 * bins) if kind == "queries and keys" else slice(None)
    return {"kernel": get("in_proj_weight")[used].T, "bias": get("in_proj_bias")[used]}


def _published_shapes(published: str, kind: str, shapes: Any) -> dict[str, tuple[int, ...]]:
    """The published parameters of one module with their shapes, from the shapes in this library."""
    if kind == "linear":
        inputs, outputs = shapes["kernel"].shape
        return {f"{published}.weight": (outputs, inputs), f"{published}.bias": (outputs,)}
    if kind == "layer_norm":
        return {f"{published}.{name}": shapes["scale"].shape for name in ("weight", "bias")}
    if kind == "scale_norm":
        return {f"{published}.scale": ()}
    if kind == "table":
        return {f"{published}.weight": shapes.shape}
    width = shapes["kernel"].shape[0]
    # Queries, keys and values, even where the values are unused.
    return {
        f"{published}.in_proj_weight": (3 * width, width),
        f"{published}.in_proj_bias": (3 * width,),
    }


@functools.cache
def _shapes(model: ModelConfig, contrast: ContrastConfig, dims: Dims) -> Any:
    """The shapes of the parameters of ``STNDT``."""
    x_BTN = jnp.zeros((1, dims.bins, dims.neurons))
    # No shape depends on the heads, which may not even divide these dims.
    network = STNDT(dataclasses.replace(model, heads=1), contrast, dims)
    return jax.eval_shape(network.init, jax.random.key(0), x_BTN)["params"]
