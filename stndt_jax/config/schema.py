"""The schema that every configuration is checked against.

``configs/*.py`` build an ``ml_collections.ConfigDict``; :func:`from_mapping` turns it (or
the JSON of an earlier run) into the frozen dataclasses below, with every key and value
checked. All other code sees these dataclasses only, and has no defaults of its own.

What may differ between the members of a population is an array leaf of :class:`Hyper`;
everything else changes a shape or the compiled program and is the same for all members.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stndt_jax.console.lines import counted
from stndt_jax.errors import UserError
from stndt_jax.types import Dims

Check = Callable[[Any], str]
"""Returns what a value should have been, or an empty string if it is fine."""


def _at_least(low: float) -> Check:
    return lambda v: "" if v >= low else f"at least {low}"


def _more_than(low: float) -> Check:
    return lambda v: "" if v > low else f"more than {low}"


def _between(low: float, high: float) -> Check:
    return lambda v: "" if low <= v <= high else f"between {low} and {high}"


def _number(most: int) -> Check:
    return lambda v: "" if 1 <= v <= most else f"at least 1 and at most {most}"


def _rate(v: float) -> str:
    return "" if 0 <= v < 1 else "at least 0 and below 1"


def _one_of(*names: str) -> Check:
    return lambda v: "" if v in names else "one of " + ", ".join(names)


def _anything(_: Any) -> str:
    return ""


def _name(v: str) -> str:
    return "" if v else "the name of a registered class"


def _smooth(v: float) -> str:
    return "" if v == 0 or v >= 0.1 else "0, or 0.1 or more"


def _layer(v: str) -> str:
    fine = v in ("embedder", "decoder") or (v.isdecimal() and len(v) < 10)
    return "" if fine else "embedder, decoder, or the number of a layer (0 is the first)"


class Since(NamedTuple):
    """When a key came, and what runs made before did."""

    version: str
    before: Any


def _key(
    check: Check,
    doc: str,
    hyper: bool = False,
    *,
    since: Since | None = None,
    weights: bool = False,
    free: bool = False,
) -> Any:
    """A key of the configuration.

    Args:
      check: says what a wrong value should have been.
      doc: one line for ``--help``.
      hyper: may differ between the members of a population.
      since: the version that brought the key; None: it was always there. Configurations of
        earlier runs get the value that those runs acted by.
      weights: trained weights mean something else under another value.
      free: changes nothing that is computed, so that a run may continue under another value.
    """
    metadata = {"check": check, "doc": doc, "hyper": hyper, "since": since, "weights": weights}
    return dataclasses.field(metadata=metadata | {"free": free})


@dataclass(frozen=True)
class DataConfig:
    """Where the spikes are and which trials choose the best model."""

    path: str = _key(_anything, "HDF5 file of the recording", free=True)
    targets: str = _key(_anything, "HDF5 file of the targets; empty: unknown", free=True)
    name: str = _key(
        _anything, "data set, to choose one of several groups of a file; a name in the files counts"
    )
    bin_ms: float = _key(_at_least(0), "bin width, ms; 0: as the file states, otherwise 5")
    validation_fraction: float = _key(
        _rate,
        "fraction of the training trials to validate on if the held-out counts of the evaluated "
        "trials are unknown; 0: train on all trials and keep the last weights",
    )


@dataclass(frozen=True)
class ModelConfig:
    """The architecture (``layers``, ``heads``, ...) and its regularisation."""

    network: str = _key(
        _name,
        "class of the network, by its registered name",
        since=Since("0.2", "stndt"),
        weights=True,
    )
    temporal_attention: str = _key(
        _name,
        "class of attention over time, by its registered name",
        since=Since("0.2", "dot_product"),
        weights=True,
    )
    spatial_attention: str = _key(
        _name,
        "class of attention over neurons or factors, by its registered name",
        since=Since("0.2", "dot_product"),
        weights=True,
    )
    layers: int = _key(_number(1000), "encoder layers")
    width: int = _key(
        _at_least(0),
        "width of the temporal stream, factors; 0: one per neuron, as in the paper",
        since=Since("0.2", 0),
        weights=True,
    )
    input: str = _key(
        _one_of("counts", "standardised"),
        "counts, or standardised: roots of the counts, standardised for each neuron",
        since=Since("0.2", "counts"),
        weights=True,
    )
    smooth: float = _key(
        _smooth,
        "bins, standard deviation of a Gaussian: inputs are mixed with their mean; 0: not",
        since=Since("0.2", 0.0),
        weights=True,
    )
    rate_start: str = _key(
        _one_of("zero", "mean"),
        "initial log-rates: zero (about 0), or mean (of each neuron's mean count)",
        since=Since("0.2", "zero"),
    )
    heads: int = _key(
        _at_least(1),
        "attention heads; must divide the bins and the width (the neurons if width is 0)",
        weights=True,
    )
    feedforward: int = _key(_at_least(1), "feed-forward width")
    spatial: bool = _key(_anything, "attention over neurons or factors; False is NDT", weights=True)
    norm: str = _key(
        _one_of("pre", "post"),
        "layer norm before a sublayer (pre), or after the residual sum (post)",
        weights=True,
    )
    final_norm: str = _key(
        _one_of("layer", "scale"), "layer or scale: norm before the decoder", weights=True
    )
    activation: str = _key(
        _one_of("relu", "gelu"), "relu or gelu (exact), in the feed-forward sublayers", weights=True
    )
    position: str = _key(
        _one_of("sinusoidal", "learned"),
        "sinusoidal or learned: position code of bins and of neurons",
        weights=True,
    )
    position_offset: bool = _key(_anything, "positions start at 1 instead of 0", weights=True)
    tfixup: bool = _key(_anything, "scale the initial weights by T-Fixup")
    dtype: str = _key(_one_of("float32", "bfloat16"), "float32 or bfloat16: type of the matmuls")
    remat: bool = _key(
        _anything,
        "recompute layers in the backward pass: less memory, more time",
        since=Since("0.1", False),
        free=True,
    )
    full_context: bool = _key(_anything, "attend to every bin, whatever the context window")
    context_forward: int = _key(
        _anything, "bins ahead that a bin attends to; negative: unlimited", True
    )
    context_backward: int = _key(
        _anything, "bins back that a bin attends to; 0 or less: unlimited", True
    )
    dropout: float = _key(_rate, "dropout of attention weights and sublayers", True)
    dropout_rates: float = _key(_rate, "dropout before the decoder", True)
    dropout_embedding: float = _key(_rate, "dropout of the embedded inputs", True)


@dataclass(frozen=True)
class MaskConfig:
    """Masked modelling."""

    mode: str = _key(
        _one_of("full", "timestep", "neuron", "timestep_only"),
        "what is masked together: an entry (full), a bin of a trial (timestep), a neuron of a "
        "trial (neuron), or a bin of all trials (timestep_only)",
    )
    token: str = _key(
        _one_of("zero", "learned"),
        "zero: masked counts become 0, become random or stay, by the ratios below; learned: they "
        "become a learned value of each neuron",
        since=Since("0.2", "zero"),
        weights=True,
    )
    inference: str = _key(
        _one_of("unmasked", "expected"),
        "the input where nothing is masked: unmasked, the counts; expected, the mean input of "
        "training, (1 - ratio) times the counts plus ratio times the learned token",
        since=Since("0.2", "unmasked"),
    )
    grow_full: bool = _key(_anything, "let masks widen in mode full too")
    ratio: float = _key(_between(0, 1), "fraction of entries masked", True)
    token_ratio: float = _key(_between(0, 1), "fraction of masked entries set to 0", True)
    random_ratio: float = _key(_between(0, 1), "fraction of the others set to a random count", True)
    max_span: int = _key(_at_least(1), "largest width of a mask, bins", True)
    ramp_start: float = _key(
        _at_least(0), "epoch from which some masks are wider than one bin", True
    )
    ramp_end: float = _key(_at_least(0), "epoch from which any mask may be wider", True)


@dataclass(frozen=True)
class ContrastConfig:
    """The contrastive loss between two corrupted views of the same trials."""

    enabled: bool = _key(_anything, "compute the contrastive loss")
    layer: str = _key(
        _layer, "compared features: of the embedder, decoder, or a layer, by its number"
    )
    projector: str = _key(
        _one_of("none", "linear", "mlp"), "none, linear or mlp: map applied to the features"
    )
    temperature: float = _key(_more_than(0), "temperature of the cosine similarities", True)
    weight: float = _key(_at_least(0), "weight (lambda) of the contrastive loss", True)
    ratio: float = _key(_between(0, 1), "fraction of entries masked in a view", True)
    token_ratio: float = _key(_between(0, 1), "fraction of masked entries set to 0", True)
    random_ratio: float = _key(_between(0, 1), "fraction of the others set to a random count", True)
    start_epoch: float = _key(_at_least(0), "epoch from which the contrastive loss counts", True)


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its schedule, counted in epochs."""

    schedule: str = _key(
        _one_of("cosine", "inverse_sqrt", "constant"),
        "cosine, inverse_sqrt or constant: learning rate after warm-up",
    )
    clip_norm: float = _key(_more_than(0), "largest global norm of the gradient")
    learning_rate: float = _key(_more_than(0), "peak learning rate", True)
    weight_decay: float = _key(_at_least(0), "decoupled weight decay", True)
    warmup_epochs: float = _key(_at_least(0), "epochs of linear warm-up", True)


@dataclass(frozen=True)
class TrainConfig:
    """How long, in which chunks of steps."""

    epochs: int = _key(_at_least(1), "number of epochs, at most")
    batch: int = _key(_at_least(1), "trials in a batch")
    validate_every: int = _key(_at_least(1), "epochs between validations")
    patience: int = _key(_at_least(1), "epochs without improvement before a member stops")
    save_every_s: float = _key(_at_least(0), "seconds between checkpoints", free=True)
    on_divergence: str = _key(
        _one_of("freeze", "restart", "stop"),
        "of a member with NaN: freeze it, restart it from its best weights, or stop the run",
        since=Since("0.1", "freeze"),
    )
    restarts: int = _key(
        _at_least(0),
        "restarts of a member, at most, each at half the learning rate",
        since=Since("0.1", 3),
    )
    rng: str = _key(
        _one_of("threefry", "rbg"),
        "threefry, or rbg (fast on GPU and TPU): generator of masks and dropout",
        since=Since("0.1", "threefry"),
    )


@dataclass(frozen=True)
class ParallelConfig:
    """Over which devices; nothing here changes what is computed, but for rounding."""

    devices: int = _key(
        _at_least(0),
        "devices to use; 0: as many as divide the work",
        since=Since("0.1", 0),
        free=True,
    )
    data: int = _key(
        _at_least(1), "devices that share the trials of a batch", since=Since("0.1", 1), free=True
    )
    engine: str = _key(
        _one_of("mesh", "pmap"),
        "mesh: jit on a mesh of the devices; pmap: jax.pmap",
        since=Since("0.1", "mesh"),
        free=True,
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run. ``members`` holds, for any hyperparameter, one value for each member."""

    seed: int = _key(_between(0, 2**31 - 1), "random seed of member 0; member k has seed + k")
    population: int = _key(_number(2**16), "number of members trained together")
    data: DataConfig
    model: ModelConfig
    mask: MaskConfig
    contrast: ContrastConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    parallel: ParallelConfig
    members: Mapping[str, tuple[float, ...]]


class Hyper(NamedTuple):
    """What may differ between members; with K members every leaf has shape ``(K,)``."""

    seed: Any
    context_forward: Any
    context_backward: Any
    dropout: Any
    dropout_rates: Any
    dropout_embedding: Any
    mask_ratio: Any
    mask_token_ratio: Any
    mask_random_ratio: Any
    mask_max_span: Any
    mask_ramp_start: Any
    mask_ramp_end: Any
    contrast_temperature: Any
    contrast_weight: Any
    contrast_ratio: Any
    contrast_token_ratio: Any
    contrast_random_ratio: Any
    contrast_start_epoch: Any
    learning_rate: Any
    weight_decay: Any
    warmup_epochs: Any


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "model": ModelConfig,
    "mask": MaskConfig,
    "contrast": ContrastConfig,
    "optimizer": OptimizerConfig,
    "train": TrainConfig,
    "parallel": ParallelConfig,
}


def _fields() -> dict[str, dataclasses.Field]:
    """Every key below the sections, dotted -> its dataclass field."""
    return {
        f"{section}.{field.name}": field
        for section, cls in SECTIONS.items()
        for field in dataclasses.fields(cls)
    }


FIELDS = _fields()
# Keys that change nothing that is computed: where the recording lies, how often a checkpoint is
# written, on which devices.
FREE = frozenset(key for key, field in FIELDS.items() if field.metadata["free"])
# Keys of one meaning each: weights trained under another value mean something else.
MEANING = tuple(key for key, field in FIELDS.items() if field.metadata["weights"])


def with_later(values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an earlier run, with the keys that came later."""
    filled = dict(values)
    for key, field in FIELDS.items():
        since = field.metadata["since"]
        section, name = key.split(".")
        given = filled.get(section, {})
        if since is not None and isinstance(given, Mapping):
            filled[section] = {name: since.before, **given}
    return filled


def _hyper_fields() -> dict[str, tuple[str, dataclasses.Field]]:
    """Hyper field name -> (its key in the configuration, its dataclass field)."""
    found: dict[str, tuple[str, dataclasses.Field]] = {}
    for section, cls in SECTIONS.items():
        for field in dataclasses.fields(cls):
            if field.metadata["hyper"]:
                prefix = f"{section}_" if section in ("mask", "contrast") else ""
                found[prefix + field.name] = (f"{section}.{field.name}", field)
    return found


HYPER_FIELDS = _hyper_fields()


def documentation() -> list[tuple[str, str, str]]:
    """Every key as (name, type, meaning), in the order of the configuration file."""
    rows = []
    for field in dataclasses.fields(Config):
        if field.name in SECTIONS:
            for inner in dataclasses.fields(SECTIONS[field.name]):
                rows.append((f"{field.name}.{inner.name}", str(inner.type), inner.metadata["doc"]))
        elif field.name != "members":
            rows.append((field.name, str(field.type), field.metadata["doc"]))
    rows.append(("members.NAME", "tuple", "one value of a hyperparameter for each member"))
    return rows


def suggest(key: str, known: list[str]) -> str:
    """A hint at the known key that is meant, or the list of them."""
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else "known keys: " + ", ".join(known)


# What XLA computes in; a larger number would become infinite there.
_LARGEST = float(np.finfo(np.float32).max)


def _typed(key: str, value: Any, kind: str, check: Check) -> Any:
    """``value`` as the type named ``kind`` if it is one and passes ``check``."""
    if value is None and kind in ("int", "float"):
        raise UserError(
            f"config.{key} is open, to be chosen from a recording; set it, or give the recording: "
            f"get_config('auto', data)"
        )
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if number and kind in ("int", "float") and _LARGEST < abs(value) < math.inf:
        raise UserError(f"config.{key} is {_brief(value)}; it must be within 32 bits")
    if kind == "float" and number:
        value = float(value)
    elif kind == "int" and number and float(value).is_integer():
        value = int(value)
    elif type(value).__name__ != kind or number:
        wanted = {"float": "a number", "int": "a whole number", "bool": "true or false"}
        raise UserError(f"config.{key} is {_brief(value)}; it must be {wanted.get(kind, 'a text')}")
    if kind == "int" and abs(value) >= 2**31:
        raise UserError(f"config.{key} is {value!r}; it must be within 32 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"config.{key} is {value!r}; it must be a finite number")
    if expected := check(value):
        raise UserError(f"config.{key} is {_brief(value)}; it must be {expected}")
    return value


def _brief(value: Any) -> str:
    """A value for a message; Python refuses to print whole numbers of thousands of digits."""
    if isinstance(value, int) and abs(value) > 10**40:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _section(prefix: str, cls: type, values: Any) -> dict[str, Any]:
    """The checked keyword arguments of the dataclass ``cls``, leaf keys only."""
    if not isinstance(values, Mapping):
        raise UserError(f"config.{prefix.rstrip('.')} is {_brief(values)}; it must hold named keys")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.metadata}
    nested = {f.name for f in dataclasses.fields(cls)} - set(fields)
    for name in values:
        if name not in fields and name not in nested:
            known = sorted({*fields, *nested})
            raise UserError(f"config.{prefix}{name} is not a key; {suggest(str(name), known)}")
    missing = [name for name in (*fields, *nested) if name not in values]
    if missing:
        raise UserError(f"config.{prefix}{missing[0]} is missing; configs/default.py has it")
    return {
        name: _typed(prefix + name, values[name], str(field.type), field.metadata["check"])
        for name, field in fields.items()
    }


def _members(values: Any, population: int) -> dict[str, tuple[float, ...]]:
    """Per-member values, checked like the single values they replace."""
    known = ["seed", *HYPER_FIELDS]
    checked = {}
    if not isinstance(values, Mapping):
        raise UserError(f"config.members is {_brief(values)}; it must hold named keys")
    for name, given in values.items():
        if name not in known:
            raise UserError(f"config.members.{name} is not a key; {suggest(str(name), known)}")
        if not isinstance(given, (tuple, list)):
            raise UserError(
                f"config.members.{name} is {_brief(given)}; it must be a list of values"
            )
        if len(given) not in (0, population):
            raise UserError(
                f"config.members.{name} has {len(given)} values for a population of "
                f"{population}; give one for each member, or none"
            )
        field = HYPER_FIELDS[name][1] if name != "seed" else _field(Config, "seed")
        checked[name] = tuple(
            _typed(f"members.{name}", value, str(field.type), field.metadata["check"])
            for value in given
        )
    return {name: given for name, given in checked.items() if given}


def _field(cls: type, name: str) -> dataclasses.Field:
    return next(f for f in dataclasses.fields(cls) if f.name == name)


def from_mapping(values: Mapping[Any, Any]) -> Config:
    """Checks every key and value and freezes them.

    Args:
      values: nested mapping as ``configs/default.py`` builds it or ``config.json`` holds it.

    Raises:
      UserError: a key is unknown or missing, or a value has the wrong type or range.
    """
    top = _section("", Config, values)
    sections = {
        name: cls(**_section(f"{name}.", cls, values[name])) for name, cls in SECTIONS.items()
    }
    members = _members(values["members"], top["population"])
    config = Config(**top, **sections, members=members)
    _check_together(config)
    return config


def section(cls: type, name: str, values: Mapping[str, Any]) -> Any:
    """One section of a configuration, checked like the whole.

    Raises:
      UserError: it is missing, or a key or value is wrong.
    """
    if name not in values:
        raise UserError(f"config.{name} is missing; configs/default.py has it")
    return cls(**_section(f"{name}.", cls, values[name]))


def as_config(values: Any) -> Config:
    """A checked configuration of whatever holds one.

    Args:
      values: a ``Config``, a ``ConfigDict`` as ``get_config`` gives it, or a nested mapping.

    Raises:
      UserError: as :func:`from_mapping`, or it is no configuration at all.
    """
    return values if isinstance(values, Config) else from_mapping(as_mapping(values))


def as_mapping(values: Any) -> Mapping[str, Any]:
    """A configuration as a nested mapping, not yet checked.

    Raises:
      UserError: it is no configuration.
    """
    if hasattr(values, "to_dict"):
        values = values.to_dict()
    if not isinstance(values, Mapping):
        raise UserError(
            f"the configuration is a {type(values).__name__}; give what get_config() returns"
        )
    return values


def _check_together(config: Config) -> None:
    """Conditions between keys."""
    layer = config.contrast.layer
    if layer.isdecimal() and int(layer) >= config.model.layers:
        raise UserError(
            f"config.contrast.layer is {layer} but the model has "
            f"{counted(config.model.layers, 'layer')}, numbered from 0"
        )
    if config.mask.inference == "expected" and config.mask.token != "learned":
        raise UserError(
            f"config.mask.inference is 'expected', the mean of counts and learned tokens, but "
            f"config.mask.token is {config.mask.token!r}; set config.mask.inference='unmasked' too"
        )
    if config.seed + config.population > 2**31:
        raise UserError(
            f"config.seed is {config.seed}; too large for {counted(config.population, 'member')}"
        )
    members = hyper(config)
    for start, end in zip(members.mask_ramp_start, members.mask_ramp_end, strict=True):
        if end < start:
            raise UserError(
                f"config.mask.ramp_end is {float(end)}, before config.mask.ramp_start "
                f"({float(start)}); give every member a ramp that starts before it ends"
            )


def stream_width(model: ModelConfig, dims: Dims) -> int:
    """D, the width of the temporal stream: its factors, or the neurons where it has none."""
    return model.width or dims.neurons


_FACTORS = (
    ", or set config.model.width to a number of factors that it divides, which then stand for "
    "the neurons"
)


def check_dims(config: Config, dims: Dims) -> None:
    """Checks what depends on the data.

    Raises:
      UserError: the heads do not divide the width or the bins.
    """
    what = "factors of config.model.width" if config.model.width else "neurons of this data"
    checks = [(stream_width(config.model, dims), what)]
    if config.model.spatial:
        checks.append((dims.bins, "bins of this data"))
    for size, what in checks:
        if size % config.model.heads:
            heads, width = config.model.heads, config.model.width
            helps = not width and not any(n % heads for n, _ in checks[1:])
            other = _FACTORS if helps else ""
            common = [h for h in range(1, 17) if not any(n % h for n, _ in checks)]
            *first, last = map(str, common)
            may = f"{', '.join(first)} or {last}" if first else last
            raise UserError(
                f"config.model.heads is {config.model.heads}, which does not divide the {size} "
                f"{what}; it may be {may}{other}"
            )


def to_mapping(config: Config) -> dict[str, Any]:
    """The configuration as plain nested dictionaries, ready for JSON."""
    return dataclasses.asdict(config)


def flat(config: Config) -> dict[str, Any]:
    """The configuration as one dictionary, ``section.key -> value``; tuples become lists."""

    def flattened(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in values.items():
            if isinstance(value, dict):
                yield from flattened(value, f"{prefix}{name}.")
            else:
                yield prefix + name, list(value) if isinstance(value, tuple) else value

    return dict(flattened(to_mapping(config), ""))


def hyper(config: Config) -> Hyper:
    """The hyperparameters of all members.

    Returns:
      A ``Hyper`` whose leaves have shape ``(K,)``: int32 for whole numbers, else float32.
    """
    K = config.population
    seeds = config.members.get("seed", config.seed + np.arange(K))
    leaves: dict[str, np.ndarray] = {"seed": np.asarray(seeds, np.int32)}
    for name, (key, field) in HYPER_FIELDS.items():
        section, leaf = key.split(".")
        value = config.members.get(name, getattr(getattr(config, section), leaf))
        dtype = np.int32 if field.type == "int" else np.float32
        leaves[name] = np.broadcast_to(np.asarray(value, dtype), (K,)).copy()
    if config.model.full_context:
        leaves["context_forward"][:] = -1
        leaves["context_backward"][:] = -1
    return Hyper(**leaves)
