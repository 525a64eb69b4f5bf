"""The method written a second time, slowly, as the oracle the package is compared with.

Plain NumPy in float64 with loops over trials, heads and layers: nothing is shared with the
package, so an agreement of the two is evidence. A model is a ``state``, the flat dict of
arrays a PyTorch STNDT saves (``Linear.weight`` is (out, in)), and ``options``, the dict
of published option names stored with each parity fixture.

Letters: B trials, T bins, N neurons, H heads, L layers, F feed-forward width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

State = Mapping[str, np.ndarray]
Options = Mapping[str, Any]
Array = np.ndarray

LAYER_NORM_EPSILON = 1e-5
SCALE_NORM_FLOOR = 1e-5
NORMALISE_FLOOR = 1e-12  # a silent feature row stays zero
ZERO_RATE_FLOOR = 1e-9  # what nlb_tools puts in the place of a rate of exactly zero
NO_TARGET = -100


@dataclass(frozen=True)
class Fixture:
    """One parity fixture: ``params`` and ``grads`` by PyTorch name, ``arrays`` the rest."""

    name: str
    options: dict[str, Any]
    sizes: dict[str, int]
    params: dict[str, Array]
    grads: dict[str, Array]
    arrays: dict[str, Array]


@dataclass(frozen=True)
class Forward:
    """Everything one forward pass makes; the spatial arrays are None for NDT.

    Shapes: ``lograte`` (B, T, N), ``layer_outputs`` (B, T, N, L), the head-averaged
    ``temporal_attention`` (L, B, T, T) and ``spatial_attention`` (L, B, N, N), and, before
    position, ``embedding`` (B, T, N) and ``spatial_embedding`` (B, N, T).
    """

    lograte: Array
    layer_outputs: Array
    temporal_attention: Array
    spatial_attention: Array | None
    embedding: Array
    spatial_embedding: Array | None


@dataclass(frozen=True)
class Losses:
    """``contrastive`` is already multiplied by lambda; ``loss`` is the sum of the two."""

    poisson_nll: float
    contrastive: float
    loss: float


def load_fixture(path: Path) -> Fixture:
    """Reads one parity fixture, every real-valued array as float64."""
    with np.load(path, allow_pickle=False) as file:
        config = json.loads(str(file["config"]))
        params: dict[str, Array] = {}
        grads: dict[str, Array] = {}
        arrays: dict[str, Array] = {}
        for key in file.files:
            if key == "config":
                continue
            array = file[key]
            if np.issubdtype(array.dtype, np.floating):
                array = array.astype(np.float64)
            if key.startswith("param/"):
                params[key.removeprefix("param/")] = array
            elif key.startswith("grad/"):
                grads[key.removeprefix("grad/")] = array
            else:
                arrays[key] = array
    options = config.pop("model")
    return Fixture(path.stem, options, config, params, grads, arrays)


def sinusoid(length: int, width: int, offset: int = 0) -> Array:
    """The position table (length, width): sin in even columns, cos in odd ones."""
    table = np.zeros((length, width))
    for row in range(length):
        for column in range(width):
            pair = column // 2
            angle = (row + offset) * math.exp(-math.log(10000.0) * 2 * pair / width)
            table[row, column] = math.sin(angle) if column % 2 == 0 else math.cos(angle)
    return table


def oracle_context_mask(bins: int, forward: int, backward: int) -> Array:
    """(T, T) of bool: whether bin t (row) attends to bin t' (column)."""
    mask = np.zeros((bins, bins), dtype=bool)
    for t in range(bins):
        for other in range(bins):
            late_enough = backward <= 0 or other >= t - backward
            early_enough = forward < 0 or other <= t + forward
            mask[t, other] = late_enough and early_enough
    return mask


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """``x W^T + b`` over the last axis, the weight being (out, in)."""
    return x @ weight.T + bias


def softmax_rows(scores: Array, allowed: Array | None = None) -> Array:
    """Softmax of each row of a matrix over the columns ``allowed`` in it."""
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def activate(x: Array, name: str) -> Array:
    """Relu, or the exact gelu: x times the normal distribution function of x."""
    if name == "relu":
        return np.where(x > 0, x, 0.0)
    if name == "gelu":
        normal_cdf = np.vectorize(lambda v: 0.5 * (1.0 + math.erf(v / math.sqrt(2.0))))
        return x * normal_cdf(x)
    raise ValueError(f"no activation {name!r} in the oracle")


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    """Layer normalisation over the last axis with the biased variance."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + LAYER_NORM_EPSILON) * weight + bias


def scale_norm(x: Array, scale: float) -> Array:
    """``g x / max(|x|, 1e-5)`` over the last axis."""
    length = np.sqrt((x**2).sum(axis=-1, keepdims=True))
    return scale * x / np.maximum(length, SCALE_NORM_FLOOR)


def norm(x: Array, state: State, prefix: str) -> Array:
    """The LayerNorm saved under ``prefix``, or the ScaleNorm, told by what is saved."""
    if f"{prefix}.scale" in state:
        return scale_norm(x, float(state[f"{prefix}.scale"]))
    return layer_norm(x, state[f"{prefix}.weight"], state[f"{prefix}.bias"])


def attention_maps(q: Array, k: Array, heads: int, allowed: Array | None = None) -> list[Array]:
    """One (tokens, tokens) softmax map a head, from (tokens, width) queries and keys."""
    width = q.shape[-1] // heads
    maps = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        maps.append(softmax_rows(q[:, own] @ k[:, own].T / math.sqrt(width), allowed))
    return maps


# --- the model --------------------------------------------------------------------------


def positions(state: State, prefix: str, options: Options, length: int, width: int) -> Array:
    """The (length, width) position table of the ``prefix`` encoder.

    A learned table of just ``length`` rows has no row to skip, so an offset leaves it alone.
    """
    offset = 1 if options["POSITION_OFFSET"] else 0
    if options["LEARNABLE_POSITION"]:
        table = state[f"{prefix}.pos_embedding.weight"]
        first = offset if len(table) > length else 0
        return table[first : first + length]
    return sinusoid(length, width, offset)


def temporal_sublayer(
    x_TN: Array, state: State, prefix: str, heads: int, allowed_TT: Array
) -> tuple[Array, Array]:
    """Temporal self-attention of one trial: its update (T, N) and mean map (T, T)."""
    neurons = x_TN.shape[-1]
    qkv = linear(x_TN, state[f"{prefix}.in_proj_weight"], state[f"{prefix}.in_proj_bias"])
    q, k, v = (qkv[:, i * neurons : (i + 1) * neurons] for i in range(3))
    maps = attention_maps(q, k, heads, allowed_TT)
    width = neurons // heads
    mixed = [a_TT @ v[:, h * width : (h + 1) * width] for h, a_TT in enumerate(maps)]
    joined = np.concatenate(mixed, axis=-1)
    update = linear(joined, state[f"{prefix}.out_proj.weight"], state[f"{prefix}.out_proj.bias"])
    return update, np.mean(maps, axis=0)


def spatial_map(tokens_NT: Array, state: State, prefix: str, heads: int) -> Array:
    """The head-averaged spatial attention (N, N) of one trial."""
    bins = tokens_NT.shape[-1]
    weight, bias = state[f"{prefix}.in_proj_weight"], state[f"{prefix}.in_proj_bias"]
    q = linear(tokens_NT, weight[:bins], bias[:bins])
    k = linear(tokens_NT, weight[bins : 2 * bins], bias[bins : 2 * bins])
    return np.mean(attention_maps(q, k, heads), axis=0)


def encoder_layer(
    x_TN: Array,
    tokens_NT: Array | None,
    state: State,
    prefix: str,
    options: Options,
    allowed_TT: Array,
) -> tuple[Array, Array, Array | None]:
    """One layer on one trial.

    Returns:
      The output (T, N), the temporal map (T, T) and the spatial map (N, N), the last None
      where there are no spatial tokens.
    """
    heads, pre_norm = options["NUM_HEADS"], options["PRE_NORM"]
    spatial_NN = None

    def residual(x: Array, norm_name: str, sublayer: Callable[[Array], Array]) -> Array:
        if pre_norm:
            return x + sublayer(norm(x, state, f"{prefix}.{norm_name}"))
        return norm(x + sublayer(x), state, f"{prefix}.{norm_name}")

    def feed_forward(first: str, second: str) -> Callable[[Array], Array]:
        def run(x: Array) -> Array:
            inner = linear(x, state[f"{prefix}.{first}.weight"], state[f"{prefix}.{first}.bias"])
            inner = activate(inner, options["ACTIVATION"])
            return linear(
                inner, state[f"{prefix}.{second}.weight"], state[f"{prefix}.{second}.bias"]
            )

        return run

    maps: list[Array] = []

    def attend(x: Array) -> Array:
        update, a_TT = temporal_sublayer(x, state, f"{prefix}.self_attn", heads, allowed_TT)
        maps.append(a_TT)
        return update

    x_TN = residual(x_TN, "norm1", attend)
    x_TN = residual(x_TN, "norm2", feed_forward("linear1", "linear2"))
    if tokens_NT is not None:
        if pre_norm:
            tokens_NT = norm(tokens_NT, state, f"{prefix}.spatial_norm1")
        a_NN = spatial_map(tokens_NT, state, f"{prefix}.spatial_self_attn", heads)
        x_TN = residual(x_TN, "ts_norm1", lambda x: (a_NN @ x.T).T)
        x_TN = residual(x_TN, "ts_norm2", feed_forward("ts_linear1", "ts_linear2"))
        spatial_NN = a_NN
    return x_TN, maps[0], spatial_NN


def embed(state: State, prefix: str, x: Array) -> Array:
    """``sqrt(width) (x W + b)`` for the last axis of ``x``, before position."""
    embedded = linear(x, state[f"{prefix}.0.weight"], state[f"{prefix}.0.bias"])
    return math.sqrt(x.shape[-1]) * embedded


def forward(state: State, options: Options, counts_BTN: Array, spatial: bool = True) -> Forward:
    """The model without dropout, trial by trial; ``spatial=False`` is NDT."""
    trials, bins, neurons = counts_BTN.shape
    if options["FULL_CONTEXT"]:
        allowed_TT = np.ones((bins, bins), bool)
    else:
        allowed_TT = oracle_context_mask(
            bins, options["CONTEXT_FORWARD"], options["CONTEXT_BACKWARD"]
        )
    lograte, outputs, temporal, maps, embedded, embedded_spatial = [], [], [], [], [], []
    for trial in range(trials):
        counts_TN = counts_BTN[trial].astype(np.float64)
        embedded.append(embed(state, "embedder", counts_TN))
        x_TN = embedded[-1] + positions(state, "src_pos_encoder", options, bins, neurons)
        if spatial:
            embedded_spatial.append(embed(state, "spatial_embedder", counts_TN.T))
            first_tokens_NT = embedded_spatial[-1] + positions(
                state, "spatial_pos_encoder", options, neurons, bins
            )
        of_layers = []
        for index in range(options["NUM_LAYERS"]):
            tokens_NT = (first_tokens_NT if index == 0 else x_TN.T) if spatial else None
            layer = f"transformer_encoder.layers.{index}"
            of_layers.append(encoder_layer(x_TN, tokens_NT, state, layer, options, allowed_TT))
            x_TN = of_layers[-1][0]
        outputs.append([output for output, _, _ in of_layers])
        temporal.append([a_TT for _, a_TT, _ in of_layers])
        maps.append([a_NN for _, _, a_NN in of_layers])
        final = norm(x_TN, state, "transformer_encoder.norm")
        lograte.append(linear(final, state["src_decoder.0.weight"], state["src_decoder.0.bias"]))
    return Forward(
        lograte=np.array(lograte),
        layer_outputs=np.array(outputs).transpose(0, 2, 3, 1),
        temporal_attention=np.array(temporal).swapaxes(0, 1),
        spatial_attention=np.array(maps).swapaxes(0, 1) if spatial else None,
        embedding=np.array(embedded),
        spatial_embedding=np.array(embedded_spatial) if spatial else None,
    )


# --- the losses -------------------------------------------------------------------------


def oracle_poisson(lograte: Array, labels: Array) -> float:
    """Mean of ``exp(z) - x z`` over the entries that are targets (label not -100)."""
    total, targets = 0.0, 0
    for z, label in zip(lograte.ravel(), labels.ravel(), strict=True):
        if label != NO_TARGET:
            total += math.exp(z) - float(label) * float(z)
            targets += 1
    return total / targets


def oracle_contrastive(first: Array, second: Array, temperature: float) -> float:
    """InfoNCE of two views, (B, ...) each: row i's positive is row i of the other view."""
    trials = len(first)
    rows = []
    for feature in [*first, *second]:
        flat = np.asarray(feature, np.float64).ravel()
        rows.append(flat / max(math.sqrt(float((flat**2).sum())), NORMALISE_FLOOR))
    total = 0.0
    for i in range(2 * trials):
        positive = (i + trials) % (2 * trials)
        logits = {j: float(rows[i] @ rows[j]) / temperature for j in range(2 * trials) if j != i}
        largest = max(logits.values())
        log_sum = largest + math.log(sum(math.exp(v - largest) for v in logits.values()))
        total += log_sum - logits[positive]
    return total / (2 * trials)


def project(x: Array, state: State, prefix: str, options: Options) -> Array:
    """The contrastive projector over the last axis, or nothing where there is none."""
    if not options["USE_CONTRAST_PROJECTOR"]:
        return x
    if options["LINEAR_PROJECTOR"]:
        return linear(x, state[f"{prefix}.weight"], state[f"{prefix}.bias"])
    hidden = linear(x, state[f"{prefix}.0.weight"], state[f"{prefix}.0.bias"])
    hidden = activate(hidden, "relu")
    return linear(hidden, state[f"{prefix}.2.weight"], state[f"{prefix}.2.bias"])


def contrastive_features(
    state: State, options: Options, view_BTN: Array, spatial: bool = True
) -> list[tuple[str, Array]]:
    """The projected features of one view, as (projector name, (B, ...)), one a loss."""
    layer = options["CONTRAST_LAYER"]
    view_BTN = view_BTN.astype(np.float64)
    if layer == "embedder":
        features = [("projector", embed(state, "embedder", view_BTN))]
        if spatial:
            view_BNT = view_BTN.swapaxes(1, 2)
            features.append(("spatial_projector", embed(state, "spatial_embedder", view_BNT)))
    else:
        out = forward(state, options, view_BTN, spatial)
        if layer == "decoder":
            features = [("projector", out.lograte)]
        else:
            features = [("projector", out.layer_outputs[..., int(layer)])]
    return [(name, project(feature, state, name, options)) for name, feature in features]


def losses(
    state: State,
    options: Options,
    lograte_BTN: Array,
    labels_BTN: Array,
    view1_BTN: Array,
    view2_BTN: Array,
    spatial: bool = True,
) -> Losses:
    """Masked Poisson loss, lambda times the contrastive loss(es), and their sum."""
    firsts = contrastive_features(state, options, view1_BTN, spatial)
    seconds = contrastive_features(state, options, view2_BTN, spatial)
    contrastive = 0.0
    for (_, first), (_, second) in zip(firsts, seconds, strict=True):
        contrastive += oracle_contrastive(first, second, options["TEMPERATURE"])
    contrastive *= options["LAMBDA"]
    poisson = oracle_poisson(lograte_BTN, labels_BTN)
    return Losses(poisson, contrastive, poisson + contrastive)


def total_loss(
    state: State, options: Options, arrays: Mapping[str, Array], spatial: bool = True
) -> float:
    """The training loss of a batch, from the fixture's ``input, labels, view1, view2``."""
    out = forward(state, options, arrays["input"], spatial)
    views = arrays["view1"], arrays["view2"]
    return losses(state, options, out.lograte, arrays["labels"], *views, spatial).loss


# --- other scores and tools -------------------------------------------------------------


def oracle_bits_per_spike(rates: Array, counts: Array) -> float:
    """Bits per spike of (..., N) rates against counts; entries with NaN counts are left out.

    The null model is each neuron's mean count. The ``log x!`` of the two cancels.
    """
    neurons = counts.shape[-1]
    rates_RN, counts_RN = rates.reshape(-1, neurons), counts.reshape(-1, neurons)
    gain, spikes = 0.0, 0.0
    for n in range(neurons):
        rows = [row for row in range(len(counts_RN)) if not math.isnan(counts_RN[row, n])]
        if not rows:
            continue
        mean = sum(float(counts_RN[row, n]) for row in rows) / len(rows) or ZERO_RATE_FLOOR
        for row in rows:
            rate, count = float(rates_RN[row, n]) or ZERO_RATE_FLOOR, float(counts_RN[row, n])
            gain += (mean - count * math.log(mean)) - (rate - count * math.log(rate))
            spikes += count
    return gain / spikes / math.log(2.0)


def numerical_gradient(
    function: Callable[[Array], float],
    array: Array,
    indices: Sequence[tuple[int, ...]],
    epsilon: float = 1e-6,
) -> Array:
    """Central differences of ``function(array)`` at the given entries, in float64."""
    slopes = []
    for index in indices:
        values = []
        for step in (epsilon, -epsilon):
            moved = array.astype(np.float64)
            moved[index] += step
            values.append(function(moved))
        slopes.append((values[0] - values[1]) / (2 * epsilon))
    return np.array(slopes)
