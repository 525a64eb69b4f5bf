"""Published options and parameters in this library's terms, key by key."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np
import pytest
from helpers.published import make_options, random_state
from stndt_jax.configs import default

from stndt_jax.config import schema
from stndt_jax.errors import UserError
from stndt_jax.interop import torch_params
from stndt_jax.training import step
from stndt_jax.types import Dims

START = schema.from_mapping(default.get_config().to_dict())
DIMS = Dims(4, 2, 3, 1)
CASES: dict[str, tuple[bool, dict[str, Any]]] = {
    "linear projectors": (True, {"USE_CONTRAST_PROJECTOR": True, "LINEAR_PROJECTOR": True}),
    "mlp, learned, scale norm": (
        True,
        {
            "USE_CONTRAST_PROJECTOR": True,
            "LEARNABLE_POSITION": True,
            "SCALE_NORM": True,
            "CONTRAST_LAYER": "decoder",
        },
    ),
    "post-norm": (True, {"PRE_NORM": False}),
    "ndt": (False, {"USE_CONTRAST_PROJECTOR": True}),
}
every_case = pytest.mark.parametrize("case", CASES)


def built(case: str) -> tuple[dict[str, np.ndarray], schema.ModelConfig, schema.ContrastConfig]:
    spatial, changes = CASES[case]
    published = make_options(**changes)
    start = dataclasses.replace(START.model, spatial=spatial)
    state = random_state(np.random.default_rng(0), published, DIMS.bins, DIMS.neurons, 1024)
    return state, *torch_params.options(published, start, START.contrast)


def flat(tree: Any) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {"/".join(k.key for k in path): np.asarray(leaf) for path, leaf in leaves}


def used(case: str, name: str) -> bool:
    """Whether the model has the published parameter: by the definition, not by the names here."""
    spatial, changes = CASES[case]
    if name.endswith(".pe") or "spatial_self_attn.out_proj" in name:
        return False  # tables of numbers, and a projection that nothing reads
    if name.startswith("spatial_projector"):
        return spatial and changes.get("CONTRAST_LAYER", "embedder") == "embedder"
    if not spatial and ("spatial" in name or ".ts_" in name):
        return False
    return not ("spatial_norm1" in name and changes.get("PRE_NORM") is False)


@every_case
def test_the_tree_is_the_one_a_model_starts_with(case):
    state, architecture, contrast = built(case)
    params = torch_params.parameters(state, architecture, contrast, DIMS)
    whole = dataclasses.replace(START, model=architecture, contrast=contrast)
    scalars = jax.tree.map(lambda leaf: leaf[0], schema.hyper(whole))
    start = jax.eval_shape(lambda h: step.init(step.arch(whole, DIMS, 1), h), scalars)
    assert jax.tree.structure(params) == jax.tree.structure(start.params)
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(start.params), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


@every_case
def test_every_number_arrives_once(case):
    state, architecture, contrast = built(case)
    # Every entry of every array has its own number: what arrives can be traced.
    start, numbered = 0, {}
    for name, value in state.items():
        numbered[name] = np.arange(start, start + value.size, dtype=float).reshape(value.shape)
        start += value.size
    params = flat(torch_params.parameters(numbered, architecture, contrast, DIMS))
    found = np.concatenate([leaf.ravel() for leaf in params.values()])
    wanted = []
    for name, value in numbered.items():
        if used(case, name):
            if "spatial_self_attn.in_proj" in name:
                value = value[: 2 * DIMS.bins]  # the values' third is used by nothing
            wanted.append(value.ravel())
    np.testing.assert_array_equal(np.sort(found), np.sort(np.concatenate(wanted)))


def test_places_of_weights_by_hand():
    state, architecture, contrast = built("mlp, learned, scale norm")
    params = torch_params.parameters(state, architecture, contrast, DIMS)
    layer = "transformer_encoder.layers.1"
    pairs = [
        (params["embedder"]["kernel"], state["embedder.0.weight"].T),
        (params["decoder"]["bias"], state["src_decoder.0.bias"]),
        (params["position"], state["src_pos_encoder.pos_embedding.weight"]),
        (params["projector"]["in"]["kernel"], state["projector.0.weight"].T),
        (params["projector"]["out"]["bias"], state["projector.2.bias"]),
        (params["final_norm"]["scale"], state["transformer_encoder.norm.scale"]),
        (
            params["layers_1"]["temporal"]["qkv"]["kernel"],
            state[f"{layer}.self_attn.in_proj_weight"].T,
        ),
        (
            params["layers_1"]["spatial"]["qk"]["bias"],
            state[f"{layer}.spatial_self_attn.in_proj_bias"][: 2 * DIMS.bins],
        ),
        (
            params["layers_1"]["feedforward_spatial"]["in"]["kernel"],
            state[f"{layer}.ts_linear1.weight"].T,
        ),
        (params["layers_1"]["norm3"]["scale"], state[f"{layer}.ts_norm1.weight"]),
        (params["layers_1"]["norm2"]["bias"], state[f"{layer}.norm2.bias"]),
    ]
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours, theirs.astype(np.float32))
    assert math.isclose(float(params["final_norm"]["scale"]), 2.2, rel_tol=1e-6)


@every_case
def test_any_missing_parameter_is_named(case):
    state, architecture, contrast = built(case)
    for name in state:
        if used(case, name):
            rest = {key: value for key, value in state.items() if key != name}
            with pytest.raises(UserError, match=f"lacks {name}; "):
                torch_params.parameters(rest, architecture, contrast, DIMS)


def test_missing_parameters_of_several_modules_are_all_named():
    state, architecture, contrast = built("linear projectors")
    gone = ["embedder.0.bias", "projector.weight", "transformer_encoder.layers.1.linear2.weight"]
    rest = {key: value for key, value in state.items() if key not in gone}
    with pytest.raises(UserError) as error:
        torch_params.parameters(rest, architecture, contrast, DIMS)
    assert all(name in str(error.value) for name in gone)


def test_missing_parameters_of_one_module_are_all_named():
    state, architecture, contrast = built("linear projectors")
    rest = {key: value for key, value in state.items() if not key.startswith("projector.")}
    with pytest.raises(UserError) as error:
        torch_params.parameters(rest, architecture, contrast, DIMS)
    assert "projector.weight" in str(error.value) and "projector.bias" in str(error.value)


def test_parameters_of_another_size_are_refused():
    state, architecture, contrast = built("linear projectors")
    try:
        torch_params.parameters(state, architecture, contrast, Dims(4, 2, 3, 2))
    except UserError as error:
        assert "embedder.0.weight" in str(error)
    else:
        raise AssertionError("a checkpoint of 4 neurons was taken for one of 5")


def test_parameters_that_are_left_over_are_refused():
    state, architecture, contrast = built("linear projectors")
    fewer = dataclasses.replace(architecture, layers=1)
    try:
        torch_params.parameters(state, fewer, contrast, DIMS)
    except UserError as error:
        assert "transformer_encoder.layers.1." in str(error)
    else:
        raise AssertionError("a checkpoint of 2 layers was taken for one of 1")


def test_options_by_hand():
    published = make_options(
        NUM_LAYERS=5,
        NUM_HEADS=3,
        HIDDEN_SIZE=7,
        PRE_NORM=False,
        SCALE_NORM=True,
        ACTIVATION="gelu",
        LEARNABLE_POSITION=True,
        POSITION_OFFSET=True,
        FULL_CONTEXT=True,
        CONTEXT_FORWARD=11,
        CONTEXT_BACKWARD=13,
        CONTRAST_LAYER=2,
        TEMPERATURE=0.5,
        LAMBDA=0.25,
    )
    architecture, contrast = torch_params.options(published, START.model, START.contrast)
    assert architecture == dataclasses.replace(
        START.model,
        layers=5,
        heads=3,
        feedforward=7,
        norm="post",
        final_norm="scale",
        activation="gelu",
        position="learned",
        position_offset=True,
        full_context=True,
        context_forward=11,
        context_backward=13,
    )
    assert contrast == dataclasses.replace(
        START.contrast, layer="2", projector="none", temperature=0.5, weight=0.25
    )
    for linear, kind in ((True, "linear"), (False, "mlp")):
        chosen = published | {"USE_CONTRAST_PROJECTOR": True, "LINEAR_PROJECTOR": linear}
        assert torch_params.options(chosen, START.model, START.contrast)[1].projector == kind
