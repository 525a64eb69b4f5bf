"""The spatio-temporal transformer over one population's spike counts.

**The paper's model** (``width`` 0). Two views of a trial enter: temporal tokens, one a bin with N
features, and spatial tokens, one a neuron with T features::

    temporal  E = sqrt(N) (x   W_e + b_e) + P_T        (B, T, N)
    spatial   S = sqrt(T) (x^T W_s + b_s) + P_N        (B, N, T)

Every layer (pre-norm) then does, on ``x`` of shape (B, T, N)::

    1  x += drop( MHA_T( LN1(x) ) )                  attention over time
    2  x += drop( W2 drop(act(W1 LN2(x))) )
    3  A  = mean over heads of softmax( Q K^T / sqrt(T / H) ),  Q, K from LN_S(spatial tokens)
       x += drop( (A LN3(x)^T)^T )                   attention over neurons
    4  x += drop( W4 drop(act(W3 LN4(x))) )

with S as the spatial tokens of the first layer and the transpose of the layer's own input
in all others. A norm, dropout and a linear map end in the log-rates. NDT is the same model
without steps 3 and 4.

**Factors** (``width`` D > 0). The temporal stream has a width of its own. Held-in neurons are read
in to D factors, which attend to one another in place of the neurons::

    u  = (sqrt(x) - m) / (s + .01)      standardised counts; 0 at held-out and forward entries
    u  = token_n   where masked         one learned value a neuron
    u  = (1 - r) u + r token_n          without masks, if mask.inference is "expected": the mean
                                        of what a model trained with mask ratio r has seen
    u  = u + w_n (G u - u)              if smooth is not 0; G: mean over recorded bins that a bin
                                        attends to, by a Gaussian of ``smooth`` bins; w_n: a share
                                        of each neuron, learned, at first 1/2
    E0 = u W_e + b_e                    (B, T, D)
    E  = E0 + P_T,   S = E0^T W_s + b_s + P_D          S: (B, D, T)
    layers as above with D for N
    z  = norm(x) W_d + b_d              (B, T, N); b_d starts at the log of the mean counts

Source: T. Le and E. Shlizerman, NeurIPS 2022; NDT: J. Ye and C. Pandarinath, NBDT 2021. The
factors are this library's own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from stndt_jax.config import schema
from stndt_jax.config.schema import ContrastConfig, ModelConfig
from stndt_jax.errors import UserError
from stndt_jax.models.attention import attendable, temporal_mask, tfixup
from stndt_jax.models.dropout import Scope, drop, samples
from stndt_jax.models.layers import (
    FINAL_NORMS,
    FeedForward,
    ForwardHyper,
    LayerNorm,
    Linear,
    Projector,
    sinusoid,
)
from stndt_jax.models.registry import are_shipped, check_result, find, register
from stndt_jax.types import Array, Bool, Dims, Float, Params

# Parameters that come from the data and that no step changes.
CONSTANTS = ("input_mean", "input_deviation")


class Statistics(NamedTuple):
    """What a model takes from the training trials before the first step.

    Attributes:
      mean: of the square roots of a neuron's counts, in observed bins; 0 of held-out neurons.
      deviation: of the same; 1 of held-out neurons.
      log_rate: log of each neuron's mean count per bin.
    """

    mean: Float[Array, " N"]
    deviation: Float[Array, " N"]
    log_rate: Float[Array, " N"]


def with_statistics(params: Params, statistics: Statistics, config: ModelConfig) -> Params:
    """Newly initialised parameters that start from the statistics of the data."""
    params = dict(params)
    if config.input == "standardised":
        params["input_mean"] = statistics.mean
        params["input_deviation"] = statistics.deviation
    if config.rate_start == "mean":
        params["decoder"] = {**params["decoder"], "bias": statistics.log_rate}
    return params


def constants(params: Mapping[str, Any]) -> Params:
    """A tree like the parameters, true where no step changes them."""
    return {
        name: jax.tree.map(lambda _, name=name: name in CONSTANTS, tree)
        for name, tree in params.items()
    }


class EncoderLayer(nn.Module):
    """Attention over time, then over neurons or factors, each with its feed-forward sublayer.

    Attributes:
      config: architecture.
      dims: sizes of one trial.
    """

    config: ModelConfig
    dims: Dims

    @nn.compact
    def __call__(
        self,
        x_BTD: Float[Array, "B T D"],
        s_BDT: Float[Array, "B D T"],
        mask_bTT: Bool[Array, "b T T"],
        hyper: ForwardHyper,
    ) -> tuple[Float[Array, "B T D"], dict[str, Array]]:
        """Returns the layer's output and its attention maps."""
        config, D = self.config, x_BTD.shape[-1]
        pre = config.norm == "pre"

        def residual(x_BTD: Array, number: int, update: Any) -> Array:
            """``x + drop(update(x))`` with the layer norm before or after."""
            norm = LayerNorm(D, name=f"norm{number}")
            h = update(norm(x_BTD) if pre else x_BTD)
            h = h.astype(jnp.float32)
            x_BTD = x_BTD + drop(self, h, hyper.dropout, hyper.shard, hyper.sample("", number - 1))
            return x_BTD if pre else norm(x_BTD)

        maps: dict[str, Array] = {}

        def attend_bins(h_BTD: Array) -> Array:
            name = config.temporal_attention
            attention = find("temporal_attention", name)(config, self.dims, name="temporal")
            B, T, _ = h_BTD.shape
            h_BTD, maps["temporal_attention"] = check_result(
                "temporal_attention",
                name,
                attention(h_BTD, mask_bTT, hyper),
                (h_BTD.shape, (B, T, T)),
            )
            return h_BTD

        def attend_factors(h_BTD: Array) -> Array:
            tokens_BDT = LayerNorm(s_BDT.shape[-1], name="norm_spatial")(s_BDT) if pre else s_BDT
            name = config.spatial_attention
            attention = find("spatial_attention", name)(config, self.dims, name="spatial")
            shape = (tokens_BDT.shape[0], D, D)
            a_BDD = check_result("spatial_attention", name, attention(tokens_BDT), (shape,))
            maps["spatial_attention"] = a_BDD
            dtype = jnp.dtype(config.dtype)
            return jnp.matmul(h_BTD.astype(dtype), a_BDD.astype(dtype).swapaxes(-1, -2))

        forward = FeedForward(config, D, tfixup(config), name="feedforward")
        x_BTD = residual(x_BTD, 1, attend_bins)
        x_BTD = residual(x_BTD, 2, lambda h: forward(h, hyper))
        if config.spatial:
            forward_spatial = FeedForward(config, D, name="feedforward_spatial")
            x_BTD = residual(x_BTD, 3, attend_factors)
            x_BTD = residual(x_BTD, 4, lambda h: forward_spatial(h, hyper))
        return x_BTD, maps


# By whether it is rematerialised: then it keeps only its input for the backward pass.
_LAYERS: dict[bool, Any] = {False: EncoderLayer, True: nn.remat(EncoderLayer)}
_traced_once: ContextVar[dict[bool, Any] | None] = ContextVar("traced_once", default=None)


@contextlib.contextmanager
def layers_traced_once() -> Iterator[None]:
    """Within it, all layers of the shipped network are one function, traced once, called for each.

    Tracing is half of what a command waits for whose program was compiled before. For one trace of
    a program: what is applied without a trace is compiled anew each time, and what is kept for
    longer would not notice that something was replaced in between.
    """
    token = _traced_once.set({remat: nn.jit(layer) for remat, layer in _LAYERS.items()})
    try:
        yield
    finally:
        _traced_once.reset(token)


@register("network", "stndt")
class STNDT(nn.Module):
    """The model; ``apply`` is pure and its parameters are a plain dictionary.

    Plain flax: ``variables = model.init(key, x_BTN)``, ``z, out = model.apply(variables, x_BTN)``.

    Attributes:
      config: architecture.
      contrast: which features the contrastive loss compares.
      dims: sizes of one trial.
      token: what stands for a masked entry, ``zero`` or ``learned``.
      expected_ratio: of the inputs without masks, where ``apply`` is given no ``hyper``.
    """

    config: ModelConfig
    contrast: ContrastConfig
    dims: Dims
    token: str = "zero"
    expected_ratio: float = 0.0

    @classmethod
    def from_config(cls, config: Any, dims: Any) -> STNDT:
        """The model of a whole configuration.

        Args:
          config: a ``Config``, or a ``ConfigDict`` as ``get_config`` gives it.
          dims: sizes of one trial, or a recording, which has them as ``dims``.

        Raises:
          UserError: a value is wrong, or the heads do not divide the sizes.
        """
        dims = getattr(dims, "dims", dims)
        if not isinstance(dims, Dims):
            raise UserError(f"dims is a {type(dims).__name__}; give a recording or its data.dims")
        checked = schema.as_config(config)
        schema.check_dims(checked, dims)
        return cls(
            config=checked.model,
            contrast=checked.contrast,
            dims=dims,
            token=checked.mask.token,
            expected_ratio=checked.mask.ratio if checked.mask.inference == "expected" else 0.0,
        )

    @property
    def width(self) -> int:
        """D, the width of the temporal stream."""
        return schema.stream_width(self.config, self.dims)

    def setup(self) -> None:
        config, T, N, D = self.config, self.dims.bins, self.dims.neurons, self.width
        dtype = jnp.dtype(config.dtype)
        if config.input == "standardised":
            self.input_mean = self.param("input_mean", nn.initializers.zeros, (N,))
            self.input_deviation = self.param("input_deviation", nn.initializers.ones, (N,))
        if self.token == "learned":
            self.mask_token = self.param("mask_token", nn.initializers.zeros, (N,))
        if config.smooth:
            self.smooth_share = self.param("smooth_share", nn.initializers.zeros, (N,))
        self.embedder = Linear(N, D, dtype, bound=None if config.width else 0.1)
        self.position = self._position(T, D, "position")
        if config.spatial:
            self.spatial_embedder = Linear(T, T, dtype)
            self.spatial_position = self._position(D, T, "spatial_position")
        # Each layer is initialised with keys of its own.
        once = None if self.is_initializing() or not self._is_shipped() else _traced_once.get()
        layer = (once or _LAYERS)[config.remat]
        self.layers = [layer(config, self.dims) for _ in range(config.layers)]
        self.final_norm = FINAL_NORMS[config.final_norm](D)
        bound = 0.01 if config.rate_start == "mean" else 0.1
        self.decoder = Linear(D, N, dtype, bound=bound, bias_bound=0.0)
        if self.contrast.enabled and self.contrast.projector != "none":
            at_rates = self.contrast.layer == "decoder"
            self.projector = Projector(self.contrast.projector, N if at_rates else D)
            if config.spatial and self.contrast.layer == "embedder":
                self.spatial_projector = Projector(self.contrast.projector, T)

    def _is_shipped(self) -> bool:
        """Whether this class and those of its attention are the package's own.

        What others do may depend on more than their arguments, and they may ask for other keys.
        """
        kinds = ("temporal_attention", "spatial_attention")
        names = {kind: getattr(self.config, kind) for kind in kinds}
        return type(self) is STNDT and are_shipped(names)

    def _position(self, length: int, width: int, name: str) -> Array:
        if self.config.position == "learned":
            return self.param(name, nn.initializers.normal(1.0), (length, width))
        return sinusoid(length, width, self.config.position_offset)

    def inputs(
        self,
        x_BTN: Float[Array, "B T N"],
        recorded_BTN: Bool[Array, "B T N"] | None = None,
        masked_BTN: Bool[Array, "B T N"] | None = None,
        expected_ratio: Array | float = 0.0,
    ) -> Float[Array, "B T N"]:
        """What is embedded: counts or standardised counts, the learned token where masked.

        Where nothing is masked (None) and ``expected_ratio`` r is not 0, it is the mean of that
        over masks of ratio r, as weights are scaled after dropout (N. Srivastava et al., JMLR
        2014).

        Raises:
          UserError: the counts are not those of the model's bins and neurons.
        """
        if x_BTN.ndim != 3 or x_BTN.shape[1:] != (self.dims.bins, self.dims.neurons):
            raise UserError(
                f"the counts have shape {x_BTN.shape}; the model takes (trials, {self.dims.bins} "
                f"bins, {self.dims.neurons} neurons): observed then forward bins, held-in then "
                f"held-out neurons, 0 where it sees none"
            )
        if self.config.input == "standardised":
            mean_N = jax.lax.stop_gradient(self.input_mean)
            deviation_N = jax.lax.stop_gradient(self.input_deviation)
            # The inner where keeps the gradient with respect to a count of 0 finite.
            root_BTN = jnp.where(x_BTN > 0, jnp.sqrt(jnp.where(x_BTN > 0, x_BTN, 1.0)), 0.0)
            x_BTN = (root_BTN - mean_N[None, None]) / (deviation_N[None, None] + 0.01)
            x_BTN = jnp.where(self._is_input()[None], x_BTN, 0)
            if recorded_BTN is not None:
                x_BTN = jnp.where(recorded_BTN, x_BTN, 0)
        if self.token != "learned":
            return x_BTN
        if masked_BTN is not None:
            return jnp.where(masked_BTN, self.mask_token[None, None], x_BTN)
        if _is_zero(expected_ratio):
            return x_BTN
        token_TN = jnp.where(self._is_input(), self.mask_token[None], 0)
        return (1 - expected_ratio) * x_BTN + expected_ratio * token_TN[None]

    def smoothed(
        self,
        u_BTN: Float[Array, "B T N"],
        mask_bTT: Bool[Array, "b T T"],
        recorded_BTN: Bool[Array, "B T N"] | None = None,
    ) -> Float[Array, "B T N"]:
        """Inputs mixed with their mean over neighbouring bins, by each neuron's learned share.

        The mean is weighted by a Gaussian of ``config.smooth`` bins, over the recorded bins that a
        bin attends to: a context window without bins ahead gives a causal filter.
        """
        if not self.config.smooth:
            return u_BTN
        bin_T = jnp.arange(self.dims.bins, dtype=jnp.float32)
        lag_TT = bin_T[:, None] - bin_T[None]
        kernel_bTT = jnp.exp(-0.5 * (lag_TT / self.config.smooth) ** 2)[None] * mask_bTT
        is_input_BTN = self._is_input()[None]
        if recorded_BTN is not None:
            is_input_BTN = is_input_BTN & recorded_BTN
        weight_BTN = jnp.matmul(kernel_bTT, is_input_BTN.astype(jnp.float32))
        sum_BTN = jnp.matmul(kernel_bTT, jnp.where(is_input_BTN, u_BTN, 0))
        # An entry that is an input has a weight of 1 or more: its own.
        mean_BTN = sum_BTN / jnp.maximum(weight_BTN, 1)
        share_N = nn.sigmoid(self.smooth_share)
        return jnp.where(is_input_BTN, u_BTN + share_N[None, None] * (mean_BTN - u_BTN), u_BTN)

    def _is_input(self) -> Bool[Array, "T N"]:
        """True at held-in neurons in observed bins."""
        held_in_N = jnp.arange(self.dims.neurons) < self.dims.heldin
        observed_T = jnp.arange(self.dims.bins) < self.dims.bins_observed
        return observed_T[:, None] & held_in_N[None, :]

    def embed(
        self, u_BTN: Float[Array, "B T N"]
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B D T"] | None]:
        """Embeds both views, before position and dropout; no spatial view in NDT."""
        T, N = self.dims.bins, self.dims.neurons
        temporal = self.embedder(u_BTN).astype(jnp.float32)
        if not self.config.width:
            temporal = math.sqrt(N) * temporal
        if not self.config.spatial:
            return temporal, None
        rows = temporal if self.config.width else u_BTN
        spatial = self.spatial_embedder(rows.swapaxes(-1, -2)).astype(jnp.float32)
        return temporal, spatial if self.config.width else math.sqrt(T) * spatial

    def __call__(
        self,
        x_BTN: Float[Array, "B T N"],
        hyper: ForwardHyper | None = None,
        recorded_BTN: Bool[Array, "B T N"] | None = None,
        masked_BTN: Bool[Array, "B T N"] | None = None,
    ) -> tuple[Float[Array, "B T N"], dict[str, Array]]:
        """Log-rates of a batch of trials.

        Args:
          x_BTN: spike counts, zero at held-out neurons and forward bins.
          hyper: context window and dropout rates; by default those of the configuration.
          recorded_BTN: false where nothing was recorded, where ``x_BTN`` must be zero: no other
            bin and no neuron attends to a bin without any recorded held-in neuron. None where
            all were.
          masked_BTN: true where ``x_BTN`` is masked, for the learned token. None: nowhere.

        Returns:
          ``(z, out)``: log expected counts per bin, and intermediate results:
          ``temporal_attention`` (L, B, T, T) and ``spatial_attention`` (L, B, D, D), averaged
          over heads, and ``layers`` (L, B, T, D), each layer's output. Under jit, what the caller
          does not use is not computed. Dropout acts if ``apply`` is given a ``dropout`` key.
        """
        if hyper is None:
            hyper = ForwardHyper.from_config(self.config, self.expected_ratio)
        attendable_BT = None if recorded_BTN is None else attendable(recorded_BTN, self.dims)
        mask_bTT = temporal_mask(self.dims, hyper, attendable_BT)
        u_BTN = self.inputs(x_BTN, recorded_BTN, masked_BTN, hyper.expected_ratio)
        u_BTN = self.smoothed(u_BTN, mask_bTT, recorded_BTN)
        temporal_BTD, spatial_BDT = self.embed(u_BTN)
        hypers = self._with_samples(hyper, x_BTN.shape[0])
        own, embedding = hypers[0], hyper.dropout_embedding
        x_BTD = temporal_BTD + self.position[None]
        x_BTD = drop(self, x_BTD, embedding, hyper.shard, own.sample("", 0))
        if spatial_BDT is None:
            s_BDT = x_BTD.swapaxes(-1, -2)
        else:
            s_BDT = spatial_BDT + self.spatial_position[None]
            s_BDT = drop(self, s_BDT, embedding, hyper.shard, own.sample("", 1))
        layers = []
        for layer, its_hyper in zip(self.layers, hypers[1:], strict=True):
            x_BTD, maps = layer(x_BTD, s_BDT, mask_bTT, its_hyper)
            s_BDT = _recorded(x_BTD, attendable_BT).swapaxes(-1, -2)
            layers.append(maps | {"layers": x_BTD})
        out = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
        hidden, last = self.final_norm(x_BTD), own.sample("", -1)
        hidden = drop(self, hidden, hyper.dropout_rates, hyper.shard, last)
        z_BTN = self.decoder(hidden).astype(jnp.float32)
        if self.is_initializing():
            # Creates the parameters that only the contrastive loss uses.
            at_rates = self.contrast.layer == "decoder"
            self._contrasted(z_BTN if at_rates else temporal_BTD, spatial_BDT)
        return z_BTN, out

    def _with_samples(self, hyper: ForwardHyper, trials: Any) -> list[ForwardHyper]:
        """Those of the network itself, then of each layer, with the samples of their dropouts."""
        config, T, D = self.config, self.dims.bins, self.width
        if not self.has_rng("dropout") or not self._is_shipped():
            return [hyper] * (1 + config.layers)
        stream, spatial = (trials, T, D), config.spatial
        shapes: dict[Scope, list[Any]] = {(): [stream, stream]}
        if spatial:
            shapes[()].insert(1, (trials, D, T))
        layer: dict[Scope, list[Any]] = {(): [stream] * (4 if spatial else 2)}
        for forward in ("feedforward", "feedforward_spatial")[: 1 + spatial]:
            layer[forward,] = [(trials, T, config.feedforward)]
        layer["temporal",] = [(trials, T, T)] * config.heads
        names = [f"layers_{number}" for number in range(config.layers)]
        shapes |= {(name, *where): some for name in names for where, some in layer.items()}
        found = samples(self, shapes, hyper.shard)
        by_module = [{"".join(where): found[name, *where] for where in layer} for name in names]
        return [hyper._replace(samples=some) for some in ({"": found[()]}, *by_module)]

    def features(
        self,
        x_BTN: Float[Array, "B T N"],
        hyper: ForwardHyper | None = None,
        recorded_BTN: Bool[Array, "B T N"] | None = None,
        masked_BTN: Bool[Array, "B T N"] | None = None,
    ) -> list[Float[Array, "B features"]]:
        """What the contrastive loss compares, one flat row a trial; one loss for each item.

        ``embedder`` features need no encoder pass, and there are two: temporal and spatial.
        """
        layer = self.contrast.layer
        if layer == "embedder":
            u_BTN = self.inputs(x_BTN, recorded_BTN, masked_BTN)
            if self.config.smooth:
                hyper = hyper or ForwardHyper.from_config(self.config)
                rows = None if recorded_BTN is None else attendable(recorded_BTN, self.dims)
                u_BTN = self.smoothed(u_BTN, temporal_mask(self.dims, hyper, rows), recorded_BTN)
            temporal, spatial = self.embed(u_BTN)
        else:
            z, out = self(x_BTN, hyper, recorded_BTN, masked_BTN)
            temporal, spatial = z if layer == "decoder" else out["layers"][int(layer)], None
        views = self._contrasted(temporal, spatial)
        if recorded_BTN is not None:
            views[0] = _recorded(views[0], attendable(recorded_BTN, self.dims))
        return [view.reshape(view.shape[0], -1) for view in views]

    def _contrasted(self, temporal: Array, spatial: Array | None) -> list[Array]:
        """The features of a view, through their projectors where there are some."""
        if self.contrast.layer != "embedder":
            spatial = None
        if self.contrast.enabled and self.contrast.projector != "none":
            temporal = self.projector(temporal)
            spatial = None if spatial is None else self.spatial_projector(spatial)
        return [temporal] if spatial is None else [temporal, spatial]


def _is_zero(ratio: Array | float) -> bool:
    """Whether a ratio is 0 when a program is traced, so that the program need not contain it."""
    return isinstance(ratio, int | float) and ratio == 0


def _recorded(x_BTD: Array, attendable_BT: Array | None) -> Array:
    """Zero in bins that were not recorded."""
    return x_BTD if attendable_BT is None else jnp.where(attendable_BT[..., None], x_BTD, 0)
