"""The configuration door: every key checked, every error named, and the sizes of the models."""

from __future__ import annotations

import copy
import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from stndt_jax.configs import default

from stndt_jax.config import loading, schema
from stndt_jax.errors import UserError
from stndt_jax.runs import directory
from stndt_jax.training import step
from stndt_jax.types import Dims

SIZES = {
    "mc_maze": Dims(140, 40, 137, 45),
    "mc_rtt": Dims(120, 40, 98, 32),
    "area2_bump": Dims(120, 40, 49, 16),
    "dmfc_rsg": Dims(300, 40, 40, 14),
    "mc_maze_large": Dims(140, 40, 122, 40),
    "mc_maze_medium": Dims(140, 40, 114, 38),
    "mc_maze_small": Dims(140, 40, 107, 35),
    "reach": Dims(50, 10, 32, 16),
    "lorenz": Dims(50, 10, 24, 8),
    "rnn": Dims(50, 10, 36, 12),
    "tiny": Dims(50, 10, 32, 16),
    "default": Dims(50, 10, 32, 16),
    "factors": Dims(50, 10, 32, 16),
}

GOLDEN = {
    "mc_maze": 681_084,
    "mc_maze:paper": 1_341_458,
    "mc_rtt": 451_818,
    "mc_rtt:paper": 855_174,
    "area2_bump": 238_885,
    "area2_bump:paper": 477_264,
    "dmfc_rsg": 1_254_770,
    "dmfc_rsg:paper": 1_878_202,
    "mc_maze_large": 217_262,
    "mc_maze_large:paper": 400_666,
    "mc_maze_medium": 216_572,
    "mc_maze_medium:paper": 373_376,
    "mc_maze_small": 215_882,
    "mc_maze_small:paper": 347_486,
    "reach": 92_924,
    "lorenz": 91_324,
    "rnn": 92_924,
    "tiny": 55_336,
    "default": 183_112,
    "factors": 64_316,
}


def values(**changes: Any) -> dict[str, Any]:
    """The default values as plain dictionaries; ``section__key`` changes one."""
    plain = default.get_config().to_dict()
    for name, value in changes.items():
        node, (*sections, leaf) = plain, name.split("__")
        for section in sections:
            node = node[section]
        node[leaf] = value
    return plain


def checked(**changes: Any) -> schema.Config:
    return schema.from_mapping(values(**changes))


def count_by_hand(config: schema.Config, dims: Dims) -> int:
    """Weights of an STNDT with an ``embedder`` contrast, one sum a line of the definition."""
    model, projector = config.model, config.contrast.projector
    T, N, F = dims.bins, dims.neurons, model.feedforward
    D = model.width or N

    def linear(inputs: int, outputs: int) -> int:
        return inputs * outputs + outputs

    feedforward = linear(D, F) + linear(F, D)
    temporal = linear(D, 3 * D) + linear(D, D) + feedforward + 2 * (2 * D)
    spatial = linear(T, 2 * T) + feedforward + 2 * (2 * D)
    if model.norm == "pre":
        spatial += 2 * T
    total = linear(N, D) + model.layers * temporal + 2 * D + linear(D, N)
    total += 2 * N if model.input == "standardised" else 0
    total += N if config.mask.token == "learned" else 0
    total += N if model.smooth else 0
    widths = [D]
    if model.spatial:
        total += linear(T, T) + model.layers * spatial
        widths.append(T)
    hidden = {"none": None, "linear": 0, "mlp": 1024}[projector]
    hidden = hidden if config.contrast.enabled else None
    for width in widths:
        if hidden == 0:
            total += linear(width, width)
        elif hidden is not None:
            total += linear(width, hidden) + linear(hidden, width)
    return total


def count_of(checked: schema.Config, dims: Dims) -> int:
    """Weights that ``step.init`` makes, without running it."""
    scalars = jax.tree.map(lambda leaf: leaf[0], schema.hyper(checked))
    state = jax.eval_shape(lambda h: step.init(step.arch(checked, dims, 1), h), scalars)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))


# --- the shipped files ------------------------------------------------------------------


def test_every_shipped_file_has_a_size_here():
    folder = Path(__file__).resolve().parents[1] / "configs"
    # auto has a size for each recording: test_automatic.py.
    assert {p.stem for p in folder.glob("*.py")} - {"__init__", "auto"} == set(SIZES)
    assert {name.partition(":")[0] for name in GOLDEN} == set(SIZES)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_parameter_count(name):
    file, _, variant = name.partition(":")
    module = importlib.import_module(f"stndt_jax.configs.{file}")
    shipped = module.get_config(variant) if variant else module.get_config()
    read = schema.from_mapping(shipped.to_dict())
    schema.check_dims(read, SIZES[file])
    assert read.contrast.layer == "embedder"
    found = count_of(read, SIZES[file])
    assert found == count_by_hand(read, SIZES[file])
    assert found == GOLDEN[name]


@pytest.mark.parametrize(
    "changes",
    [
        {"model__spatial": False},
        {"model__norm": "post", "contrast__projector": "none"},
        {"contrast__projector": "mlp"},
    ],
    ids=["ndt", "post-norm", "mlp"],
)
def test_parameter_count_of_the_switches(changes):
    read = checked(model__layers=2, **changes)
    dims = Dims(5, 3, 4, 2)
    wanted = count_by_hand(read, dims)
    assert count_of(read, dims) == wanted


def test_documentation_names_every_key_once():
    def leaves(node: dict, prefix: str = "") -> list[str]:
        found = []
        for name, value in node.items():
            if isinstance(value, dict) and name != "members":
                found += leaves(value, f"{prefix}{name}.")
            elif name != "members":
                found.append(prefix + name)
        return found

    rows = schema.documentation()
    assert sorted(name for name, _, _ in rows[:-1]) == sorted(leaves(values()))
    assert rows[-1][0] == "members.NAME"
    assert all(kind in ("int", "float", "bool", "str", "tuple") and doc for _, kind, doc in rows)


# --- errors -----------------------------------------------------------------------------


def refused(match: str, given: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        schema.from_mapping(given)
    assert match in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_keys_are_refused_with_a_suggestion():
    refused("config.model.layer is not a key; did you mean layers?", values(model__layer=3))
    refused("config.optimiser is not a key; did you mean optimizer?", values(optimiser={}))
    refused("config.train.zzz is not a key; known keys: batch", values(train__zzz=1))
    given = values(members__mask_ration=(0.1,))
    refused("config.members.mask_ration is not a key; did you mean mask_ratio?", given)


@pytest.mark.parametrize("name", ["seed", "population", "mask", "members", "train"])
def test_missing_top_key(name):
    given = values()
    del given[name]
    refused(f"config.{name} is missing", given)


def test_every_missing_key_is_named():
    for section in schema.SECTIONS:
        for name in values()[section]:
            given = values()
            del given[section][name]
            refused(f"config.{section}.{name} is missing", given)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("model__layers", "4", "a whole number"),
        ("model__layers", 2.5, "a whole number"),
        ("model__layers", True, "a whole number"),
        ("model__layers", math.inf, "a whole number"),
        ("model__layers", math.nan, "a whole number"),
        ("model__dropout", "0.1", "a number"),
        ("model__dropout", False, "a number"),
        ("model__dropout", [0.1], "a number"),
        ("model__spatial", 1, "true or false"),
        ("model__spatial", "true", "true or false"),
        ("model__norm", 1, "a text"),
        ("data__path", None, "a text"),
        ("seed", "a", "a whole number"),
    ],
)
def test_wrong_type(name, value, wanted):
    key = name.replace("__", ".")
    refused(f"config.{key} is {value!r}; it must be {wanted}", values(**{name: value}))


def test_what_is_open_needs_a_recording():
    refused("config.model.layers is open, to be chosen from a rec", values(model__layers=None))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(value):
    refused("it must be a finite number", values(optimizer__learning_rate=value))


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("seed", -1, "between 0 and 2147483647"),
        ("population", 0, "at least 1"),
        ("data__bin_ms", -1.0, "at least 0"),
        ("data__validation_fraction", 1.0, "at least 0 and below 1"),
        ("model__layers", 0, "at least 1"),
        ("model__heads", 0, "at least 1"),
        ("model__feedforward", 0, "at least 1"),
        ("model__norm", "middle", "one of pre, post"),
        ("model__final_norm", "batch", "one of layer, scale"),
        ("model__activation", "tanh", "one of relu, gelu"),
        ("model__smooth", 1e-300, "0, or 0.1 or more"),
        ("model__smooth", -1.0, "0, or 0.1 or more"),
        ("model__position", "rotary", "one of sinusoidal, learned"),
        ("model__dtype", "float16", "one of float32, bfloat16"),
        ("model__dropout", 1.0, "at least 0 and below 1"),
        ("model__dropout_rates", -0.1, "at least 0 and below 1"),
        ("model__dropout_embedding", 1.5, "at least 0 and below 1"),
        ("mask__mode", "half", "one of full, timestep, neuron, timestep_only"),
        ("mask__ratio", 1.1, "between 0 and 1"),
        ("mask__token_ratio", -0.1, "between 0 and 1"),
        ("mask__random_ratio", 2.0, "between 0 and 1"),
        ("mask__max_span", 0, "at least 1"),
        ("mask__ramp_start", -1.0, "at least 0"),
        ("contrast__layer", "encoder", "embedder, decoder, or the number of a layer"),
        ("contrast__layer", "-1", "embedder, decoder, or the number of a layer"),
        ("contrast__projector", "deep", "one of none, linear, mlp"),
        ("contrast__temperature", 0.0, "more than 0"),
        ("contrast__weight", -1.0, "at least 0"),
        ("contrast__ratio", -0.1, "between 0 and 1"),
        ("contrast__start_epoch", -1.0, "at least 0"),
        ("optimizer__schedule", "step", "one of cosine, inverse_sqrt, constant"),
        ("optimizer__clip_norm", 0.0, "more than 0"),
        ("optimizer__learning_rate", 0.0, "more than 0"),
        ("optimizer__weight_decay", -1e-9, "at least 0"),
        ("optimizer__warmup_epochs", -1.0, "at least 0"),
        ("train__epochs", 0, "at least 1"),
        ("train__batch", 0, "at least 1"),
        ("train__validate_every", 0, "at least 1"),
        ("train__patience", 0, "at least 1"),
        ("train__save_every_s", -1.0, "at least 0"),
    ],
)
def test_out_of_range(name, value, wanted):
    key = name.replace("__", ".")
    refused(f"config.{key} is {value!r}; it must be {wanted}", values(**{name: value}))


def test_values_on_the_edge_of_their_range_are_fine():
    read = checked(
        model__dropout=0.0,
        mask__ratio=1.0,
        mask__token_ratio=0,
        contrast__layer="3",
        contrast__weight=0,
        seed=2**31 - 1,
        train__epochs=1.0,
    )
    assert type(read.mask.token_ratio) is float
    assert type(read.train.epochs) is int
    assert read.contrast.layer == "3"


def test_a_section_must_hold_keys():
    refused("config.model is 3; it must hold named keys", values(model=3))


def test_members_errors():
    refused(
        "config.members.learning_rate has 3 values for a population of 2",
        values(population=2, members__learning_rate=(1.0, 2.0, 3.0)),
    )
    refused(
        "config.members.dropout is 0.1; it must be a list of values",
        values(population=2, members__dropout=0.1),
    )
    refused(
        "config.members.dropout is 1.0; it must be at least 0 and below 1",
        values(population=2, members__dropout=(0.1, 1.0)),
    )
    refused(
        "config.members.context_forward is 1.5; it must be a whole number",
        values(population=2, members__context_forward=(1, 1.5)),
    )
    refused(
        "config.members.seed is -1; it must be between",
        values(population=2, members__seed=(0, -1)),
    )
    refused(
        "config.members.learning_rate is nan; it must be a finite number",
        values(population=2, members__learning_rate=(0.1, math.nan)),
    )
    refused("config.members.layers is not a key", values(members__layers=(1,)))


def test_members_must_hold_keys():
    refused("config.members is 3; it must hold named keys", values(members=3))


def test_ramps_of_members_are_compared():
    given = values(population=2, members__mask_ramp_start=(0.0, 10.0), mask__ramp_end=5.0)
    try:
        schema.from_mapping(given)
    except UserError as error:
        assert "ramp_end" in str(error)
    else:
        raise AssertionError("member 1's ramp ends before it starts")


def test_whole_numbers_fit_in_32_bits():
    with pytest.raises(UserError):
        schema.hyper(checked(model__context_forward=2**31))


def test_conditions_between_keys():
    refused("config.contrast.layer is 4 but the model has 4 layers", values(contrast__layer="4"))
    refused("config.seed is 2147483647; too large", values(seed=2**31 - 1, population=2))
    refused(
        "config.mask.ramp_end is 4.0, before config.mask.ramp_start (5.0)",
        values(mask__ramp_start=5.0, mask__ramp_end=4.0),
    )


def test_heads_must_divide_the_neurons_and_the_bins():
    dims = Dims(20, 4, 12, 6)
    schema.check_dims(checked(model__heads=6), dims)
    with pytest.raises(
        UserError,
        match=r"heads is 4, .* the 18 neurons .* be 1, 2, 3 or 6, or set config.model.width",
    ):
        schema.check_dims(checked(model__heads=4), dims)
    with pytest.raises(UserError, match="does not divide the 24 bins"):
        schema.check_dims(checked(model__heads=9), dims)
    # NDT splits no bins among its heads.
    schema.check_dims(checked(model__heads=9, model__spatial=False), dims)


# --- hyperparameters --------------------------------------------------------------------

PLACES = {
    "context_forward": "model.context_forward",
    "context_backward": "model.context_backward",
    "dropout": "model.dropout",
    "dropout_rates": "model.dropout_rates",
    "dropout_embedding": "model.dropout_embedding",
    "mask_ratio": "mask.ratio",
    "mask_token_ratio": "mask.token_ratio",
    "mask_random_ratio": "mask.random_ratio",
    "mask_max_span": "mask.max_span",
    "mask_ramp_start": "mask.ramp_start",
    "mask_ramp_end": "mask.ramp_end",
    "contrast_temperature": "contrast.temperature",
    "contrast_weight": "contrast.weight",
    "contrast_ratio": "contrast.ratio",
    "contrast_token_ratio": "contrast.token_ratio",
    "contrast_random_ratio": "contrast.random_ratio",
    "contrast_start_epoch": "contrast.start_epoch",
    "learning_rate": "optimizer.learning_rate",
    "weight_decay": "optimizer.weight_decay",
    "warmup_epochs": "optimizer.warmup_epochs",
}
WHOLE = ("seed", "context_forward", "context_backward", "mask_max_span")


def test_every_hyperparameter_comes_from_its_own_key():
    assert set(PLACES) | {"seed"} == set(schema.Hyper._fields)
    given = values(population=3, seed=40)
    wanted = {}
    for i, (name, place) in enumerate(PLACES.items()):
        section, leaf = place.split(".")
        wanted[name] = i + 3 if name in WHOLE else (i + 3) / 64  # exact in float32
        given[section][leaf] = wanted[name]
    found = schema.hyper(schema.from_mapping(given))
    np.testing.assert_array_equal(found.seed, [40, 41, 42])
    for name in PLACES:
        leaf = getattr(found, name)
        assert leaf.dtype == (np.int32 if name in WHOLE else np.float32), name
        np.testing.assert_array_equal(leaf, np.full(3, wanted[name]), err_msg=name)


def test_values_of_members_replace_the_single_one():
    own = {name: (1, 2, 3) if name in WHOLE else (0.25, 0.5, 0.75) for name in PLACES}
    own["seed"] = (9, 5, 7)
    found = schema.hyper(checked(population=3, members=own))
    for name, wanted in own.items():
        np.testing.assert_array_equal(getattr(found, name), wanted, err_msg=name)
        assert getattr(found, name).dtype == (np.int32 if name in WHOLE else np.float32), name


def test_full_context_opens_the_windows_of_all_members():
    read = checked(population=2, model__full_context=True, members__context_forward=(3, 4))
    found = schema.hyper(read)
    np.testing.assert_array_equal(found.context_forward, [-1, -1])
    np.testing.assert_array_equal(found.context_backward, [-1, -1])


def test_json_round_trip():
    read = checked(
        population=2,
        seed=3,
        contrast__layer="decoder",
        members__learning_rate=(1e-3, 2e-3),
        members__mask_max_span=[2, 5],
    )
    text = json.dumps(schema.to_mapping(read), allow_nan=False)
    again = schema.from_mapping(json.loads(text))
    assert again == read
    assert again.members == {"learning_rate": (1e-3, 2e-3), "mask_max_span": (2, 5)}
    assert json.loads(text)["optimizer"] == values()["optimizer"]


def test_what_was_read_is_left_alone():
    given = values(members__dropout=[0.5])
    before = copy.deepcopy(given)
    schema.from_mapping(given)
    assert given == before


def test_variants_of_the_benchmark_configurations():
    for name in ("mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg", "mc_maze_large", "mc_maze_small"):
        published = loading.load([f"--config={name}:paper"])
        assert published.model.width == 0 and published.mask.token == "zero"
        assert published.data.name == name
        with pytest.raises(UserError, match="there is no variant 'papr'; the only one is paper"):
            loading.load([f"--config={name}:papr"])
    assert loading.load(["--config=mc_maze_large"]).model.width == 32


HOSTILE = (
    "evil.py",
    "{run}/evil.py",
    "evil:Evil",
    "__import__('pathlib').Path('executed').touch()",
    "!!python/object/apply:pathlib.Path.touch ['executed']",
    "$(touch executed)",
    {"__reduce__": "evil", "py/object": "evil.Evil"},
    ["evil.py"],
)


@pytest.mark.parametrize("payload", HOSTILE, ids=str)
def test_a_config_json_executes_nothing(
    payload: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands in it, and whatever Python files lie beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    code = "import pathlib\npathlib.Path('executed').touch()\nclass Evil: pass\n"
    for name in ("evil", "config", "default", "auto", "conftest", "sitecustomize", "__init__"):
        (tmp_path / f"{name}.py").write_text(code)
    values = schema.to_mapping(schema.as_config(default.get_config()))
    changed = [{**values, "evil.py": payload}, {"get_config": payload}]
    for key, value in values.items():
        changed.append({**values, key: payload})
        if isinstance(value, dict):
            changed += [{**values, key: {**value, leaf: payload}} for leaf in value]
            changed.append({**values, key: {**value, "evil": payload}})
    refused = 0
    for each in changed:
        (tmp_path / "config.json").write_text(json.dumps(each))
        settings = ["--config=config.json"]
        for use in (loading.load, loading.search_space, lambda _: directory.read_config(tmp_path)):
            try:
                use(settings)
            except UserError:
                refused += 1
    assert refused > len(changed)
    assert not (tmp_path / "executed").exists()
    beside = [m for m in sys.modules.values() if str(tmp_path) in str(getattr(m, "__file__", ""))]
    assert not beside


def test_a_python_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its documentation says; this shows that the test above sees what it looks for."""
    monkeypatch.chdir(tmp_path)
    code = "import pathlib\npathlib.Path('executed').touch()\n"
    (tmp_path / "mine.py").write_text(code + "from stndt_jax.configs.tiny import get_config\n")
    loading.load(["--config=mine.py"])
    assert (tmp_path / "executed").exists()
