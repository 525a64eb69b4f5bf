"""The published PyTorch models: their options and parameters in this library's terms."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax.config.schema import ContrastConfig, ModelConfig
from stndt_jax.errors import UserError
from stndt_jax.models.stndt import STNDT
from stndt_jax.types import Dims, NDArray, Params

_LINEAR = {"kernel": ("weight", True), "bias": ("bias", False)}
_NORM = {"scale": ("weight", False), "bias": ("bias", False)}


def options(
    published: Mapping[str, Any], model: ModelConfig, contrast: ContrastConfig
) -> tuple[ModelConfig, ContrastConfig]:
    """Translates the published option names.

    Args:
      published: the model section of a published configuration.
      model: what the published options do not say (``spatial``, dropout, ``dtype``).
      contrast: likewise (ratios of the views).

    Returns:
      The two sections as the published code would have run them.
    """
    projector = "none"
    if published["USE_CONTRAST_PROJECTOR"]:
        projector = "linear" if published["LINEAR_PROJECTOR"] else "mlp"
    return (
        dataclasses.replace(
            model,
            layers=published["NUM_LAYERS"],
            heads=published["NUM_HEADS"],
            feedforward=published["HIDDEN_SIZE"],
            norm="pre" if published["PRE_NORM"] else "post",
            final_norm="scale" if published["SCALE_NORM"] else "layer",
            activation=published["ACTIVATION"],
            position="learned" if published["LEARNABLE_POSITION"] else "sinusoidal",
            position_offset=bool(published["POSITION_OFFSET"]),
            full_context=bool(published["FULL_CONTEXT"]),
            context_forward=published["CONTEXT_FORWARD"],
            context_backward=published["CONTEXT_BACKWARD"],
        ),
        dataclasses.replace(
            contrast,
            layer=str(published["CONTRAST_LAYER"]),
            projector=projector,
            temperature=published["TEMPERATURE"],
            weight=published["LAMBDA"],
        ),
    )


def _names(model: ModelConfig, contrast: ContrastConfig) -> dict[tuple[str, ...], tuple[str, str]]:
    """Module here -> (module there, kind)."""
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
        views = ["projector"]
        if model.spatial and contrast.layer == "embedder":
            views.append("spatial_projector")
        for view in views:
            if contrast.projector == "linear":
                modules[(view, "out")] = (view, "linear")
            else:
                modules[(view, "in")] = (f"{view}.0", "linear")
                modules[(view, "out")] = (f"{view}.2", "linear")
    for i in range(model.layers):
        there = f"transformer_encoder.layers.{i}"
        inner = {
            ("temporal", "qkv"): ("self_attn", "attention"),
            ("temporal", "out"): ("self_attn.out_proj", "linear"),
            ("feedforward", "in"): ("linear1", "linear"),
            ("feedforward", "out"): ("linear2", "linear"),
            ("norm1",): ("norm1", "layer_norm"),
            ("norm2",): ("norm2", "layer_norm"),
        }
        if model.spatial:
            inner |= {
                ("spatial", "qk"): ("spatial_self_attn", "queries and keys"),
                ("feedforward_spatial", "in"): ("ts_linear1", "linear"),
                ("feedforward_spatial", "out"): ("ts_linear2", "linear"),
                ("norm3",): ("ts_norm1", "layer_norm"),
                ("norm4",): ("ts_norm2", "layer_norm"),
            }
            if model.norm == "pre":
                inner[("norm_spatial",)] = ("spatial_norm1", "layer_norm")
        for here, (name, kind) in inner.items():
            modules[(f"layers_{i}", *here)] = (f"{there}.{name}", kind)
    return modules


def _leaves(there: str, kind: str, state: Mapping[str, NDArray], width: int) -> Any:
    """The parameters of one module in this library's layout."""

    def get(name: str) -> NDArray:
        return np.asarray(state[f"{there}.{name}"], np.float32)

    if kind == "linear":
        return {here: get(name).T if turn else get(name) for here, (name, turn) in _LINEAR.items()}
    if kind == "layer_norm":
        return {here: get(name) for here, (name, _) in _NORM.items()}
    if kind == "scale_norm":
        return {"scale": get("scale").reshape(())}
    if kind == "table":
        return get("weight")
    used = slice(0, 2 * width) if kind == "queries and keys" else slice(None)
    return {"kernel": get("in_proj_weight")[used].T, "bias": get("in_proj_bias")[used]}


# What the published model carries and its output does not depend on.
_IDLE = re.compile(
    r"(src|spatial)_pos_encoder\.pe|.*\.spatial_self_attn\.out_proj\..*|.*\.spatial_norm1\..*"
    r"|spatial_projector\..*"
)
# What the switch to NDT leaves behind of a spatio-temporal model.
_SPATIAL = re.compile(r"spatial_.*|.*\.(spatial_|ts_).*")


def parameters(
    state: Mapping[str, NDArray], model: ModelConfig, contrast: ContrastConfig, dims: Dims
) -> Params:
    """Parameters of the published model as those of ``STNDT``.

    Works on gradients too: they carry the same names. The published spatial attention's
    value and output projections are used by nothing and are left behind.

    Raises:
      UserError: parameters are missing, left over or of another shape; all are listed.
    """
    modules = _names(model, contrast)
    shapes = _shapes(model, contrast, dims)
    needed: dict[str, tuple[int, ...]] = {}
    for here, (there, kind) in modules.items():
        needed |= _expected(there, kind, functools.reduce(lambda t, k: t[k], here, shapes))
    missing = sorted(needed.keys() - state.keys())
    extra = sorted(name for name in state.keys() - needed.keys() if not _IDLE.fullmatch(name))
    if not model.spatial:
        extra = [name for name in extra if not _SPATIAL.fullmatch(name)]
    wrong = [
        f"{name} {np.shape(state[name])} for {shape}"
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
            f"the checkpoint {'; it '.join(faults)}; is it of another model, or of other data?"
        )
    params: Params = {}
    for here, (there, kind) in modules.items():
        inner = params
        for part in here[:-1]:
            inner = inner.setdefault(part, {})
        inner[here[-1]] = _leaves(there, kind, state, dims.bins)
    return params


def _expected(there: str, kind: str, shapes: Any) -> dict[str, tuple[int, ...]]:
    """The published names of one module with the shapes they have there."""
    if kind == "linear":
        inputs, outputs = shapes["kernel"].shape
        return {f"{there}.weight": (outputs, inputs), f"{there}.bias": (outputs,)}
    if kind == "layer_norm":
        return {f"{there}.{name}": shapes["scale"].shape for name in ("weight", "bias")}
    if kind == "scale_norm":
        return {f"{there}.scale": ()}
    if kind == "table":
        return {f"{there}.weight": shapes.shape}
    width = shapes["kernel"].shape[0]
    # Queries, keys and values, whether or not the values are used.
    return {f"{there}.in_proj_weight": (3 * width, width), f"{there}.in_proj_bias": (3 * width,)}


@functools.cache
def _shapes(model: ModelConfig, contrast: ContrastConfig, dims: Dims) -> Any:
    """The shapes of ``STNDT``'s parameters."""
    x_BTN = jnp.zeros((1, dims.bins, dims.neurons))
    # No shape depends on the heads, which may not even divide these dims.
    network = STNDT(dataclasses.replace(model, heads=1), contrast, dims)
    return jax.eval_shape(network.init, jax.random.key(0), x_BTN)["params"]
