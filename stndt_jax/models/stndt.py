"""The spatio-temporal transformer over one population's spike counts.

Two views of a trial enter: temporal tokens, one a bin with N features, and spatial tokens,
one a neuron with T features::

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

Source: T. Le and E. Shlizerman, NeurIPS 2022; NDT: J. Ye and C. Pandarinath, NBDT 2021.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from stndt_jax.config import schema
from stndt_jax.config.schema import ContrastConfig, ModelConfig
from stndt_jax.models.attention import temporal_mask, tfixup
from stndt_jax.models.layers import (
    FINAL_NORMS,
    FeedForward,
    ForwardHyper,
    LayerNorm,
    Linear,
    Projector,
    drop,
    sinusoid,
)
from stndt_jax.models.registry import find, register
from stndt_jax.types import Array, Bool, Dims, Float


class EncoderLayer(nn.Module):
    """Attention over time, then over neurons, each with its feed-forward sublayer."""

    config: ModelConfig
    dims: Dims

    @nn.compact
    def __call__(
        self,
        x_BTN: Float[Array, "B T N"],
        s_BNT: Float[Array, "B N T"],
        mask_bTT: Bool[Array, "b T T"],
        hyper: ForwardHyper,
    ) -> tuple[Float[Array, "B T N"], dict[str, Array]]:
        """Returns the layer's output and its attention maps."""
        config, N = self.config, x_BTN.shape[-1]
        pre = config.norm == "pre"

        def residual(x_BTN: Array, name: str, update: Any) -> Array:
            """``x + drop(update(x))`` with the layer norm before or after."""
            norm = LayerNorm(N, name=name)
            h = update(norm(x_BTN) if pre else x_BTN)
            x_BTN = x_BTN + drop(self, h.astype(jnp.float32), hyper.dropout, hyper.shard)
            return x_BTN if pre else norm(x_BTN)

        maps: dict[str, Array] = {}

        def attend_bins(h_BTN: Array) -> Array:
            attention = find("temporal_attention", config.temporal_attention)
            h_BTN, maps["temporal_attention"] = attention(config, self.dims, name="temporal")(
                h_BTN, mask_bTT, hyper
            )
            return h_BTN

        def attend_neurons(h_BTN: Array) -> Array:
            tokens_BNT = LayerNorm(s_BNT.shape[-1], name="norm_spatial")(s_BNT) if pre else s_BNT
            attention = find("spatial_attention", config.spatial_attention)
            a_BNN = attention(config, self.dims, name="spatial")(tokens_BNT)
            maps["spatial_attention"] = a_BNN
            dtype = jnp.dtype(config.dtype)
            return jnp.matmul(h_BTN.astype(dtype), a_BNN.astype(dtype).swapaxes(-1, -2))

        forward = FeedForward(config, N, tfixup(config), name="feedforward")
        x_BTN = residual(x_BTN, "norm1", attend_bins)
        x_BTN = residual(x_BTN, "norm2", lambda h: forward(h, hyper))
        if config.spatial:
            forward_spatial = FeedForward(config, N, name="feedforward_spatial")
            x_BTN = residual(x_BTN, "norm3", attend_neurons)
            x_BTN = residual(x_BTN, "norm4", lambda h: forward_spatial(h, hyper))
        return x_BTN, maps


@register("network", "stndt")
class STNDT(nn.Module):
    """The model; ``apply`` is pure and its parameters are a plain dictionary.

    Plain flax: ``variables = model.init(key, x_BTN)``, ``z, out = model.apply(variables, x_BTN)``.

    Attributes:
      config: architecture.
      contrast: which features the contrastive loss compares.
      dims: sizes of one trial.
    """

    config: ModelConfig
    contrast: ContrastConfig
    dims: Dims

    @classmethod
    def from_config(cls, config: Any, dims: Dims) -> STNDT:
        """The model of a whole configuration.

        Args:
          config: a ``Config``, or a ``ConfigDict`` as ``get_config`` gives it.
          dims: sizes of one trial.

        Raises:
          UserError: a value is wrong, or the heads do not divide the sizes.
        """
        checked = schema.as_config(config)
        schema.check_dims(checked, dims)
        return cls(config=checked.model, contrast=checked.contrast, dims=dims)

    def setup(self) -> None:
        config, T, N = self.config, self.dims.bins, self.dims.neurons
        dtype = jnp.dtype(config.dtype)
        self.embedder = Linear(N, N, dtype, bound=0.1)
        self.position = self._position(T, N, "position")
        if config.spatial:
            self.spatial_embedder = Linear(T, T, dtype)
            self.spatial_position = self._position(N, T, "spatial_position")
        # Rematerialised, a layer keeps only its input for the backward pass.
        layer = nn.remat(EncoderLayer) if config.remat else EncoderLayer
        self.layers = [layer(config, self.dims) for _ in range(config.layers)]
        self.final_norm = FINAL_NORMS[config.final_norm](N)
        self.decoder = Linear(N, N, dtype, bound=0.1, bias_bound=0.0)
        if self.contrast.enabled and self.contrast.projector != "none":
            self.projector = Projector(self.contrast.projector, N)
            if config.spatial and self.contrast.layer == "embedder":
                self.spatial_projector = Projector(self.contrast.projector, T)

    def _position(self, length: int, width: int, name: str) -> Array:
        if self.config.position == "learned":
            return self.param(name, nn.initializers.normal(1.0), (length, width))
        return sinusoid(length, width, self.config.position_offset)

    def embed(
        self, x_BTN: Float[Array, "B T N"]
    ) -> tuple[Float[Array, "B T N"], Float[Array, "B N T"] | None]:
        """Embeds both views, before position and dropout; no spatial view in NDT."""
        T, N = self.dims.bins, self.dims.neurons
        temporal = math.sqrt(N) * self.embedder(x_BTN).astype(jnp.float32)
        if not self.config.spatial:
            return temporal, None
        spatial = self.spatial_embedder(x_BTN.swapaxes(-1, -2)).astype(jnp.float32)
        return temporal, math.sqrt(T) * spatial

    def __call__(
        self,
        x_BTN: Float[Array, "B T N"],
        hyper: ForwardHyper | None = None,
        attendable_BT: Bool[Array, "B T"] | None = None,
    ) -> tuple[Float[Array, "B T N"], dict[str, Array]]:
        """Log-rates of a batch of trials.

        Args:
          x_BTN: spike counts, zero at held-out neurons and forward bins.
          hyper: context window and dropout rates; by default those of the configuration.
          attendable_BT: false in bins that were not recorded, where ``x_BTN`` must be zero: no
            other bin and no neuron attends to them. None where all were.

        Returns:
          ``(z, out)``: log expected counts per bin, and intermediate results:
          ``temporal_attention`` (L, B, T, T) and ``spatial_attention`` (L, B, N, N), averaged
          over heads, and ``layers`` (L, B, T, N), each layer's output. Under jit, what the caller
          does not use is not computed. Dropout acts if ``apply`` is given a ``dropout`` key.
        """
        hyper = ForwardHyper.from_config(self.config) if hyper is None else hyper
        if self.is_initializing():
            # Creates the parameters that only the contrastive loss uses.
            self._contrasted(*self.embed(x_BTN))
        mask_bTT = temporal_mask(self.dims, hyper, attendable_BT)
        temporal_BTN, spatial_BNT = self.embed(x_BTN)
        embedding = hyper.dropout_embedding
        x_BTN = drop(self, temporal_BTN + self.position[None], embedding, hyper.shard)
        if spatial_BNT is None:
            s_BNT = x_BTN.swapaxes(-1, -2)
        else:
            s_BNT = spatial_BNT + self.spatial_position[None]
            s_BNT = drop(self, s_BNT, embedding, hyper.shard)
        layers = []
        for layer in self.layers:
            x_BTN, maps = layer(x_BTN, s_BNT, mask_bTT, hyper)
            s_BNT = _recorded(x_BTN, attendable_BT).swapaxes(-1, -2)
            layers.append(maps | {"layers": x_BTN})
        out = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
        hidden = drop(self, self.final_norm(x_BTN), hyper.dropout_rates, hyper.shard)
        return self.decoder(hidden).astype(jnp.float32), out

    def features(
        self,
        x_BTN: Float[Array, "B T N"],
        hyper: ForwardHyper | None = None,
        attendable_BT: Bool[Array, "B T"] | None = None,
    ) -> list[Float[Array, "B features"]]:
        """What the contrastive loss compares, one flat row a trial; one loss for each item.

        ``embedder`` features need no encoder pass, and there are two: temporal and spatial.
        """
        layer = self.contrast.layer
        if layer == "embedder":
            temporal, spatial = self.embed(x_BTN)
        else:
            z, out = self(x_BTN, hyper, attendable_BT)
            temporal, spatial = z if layer == "decoder" else out["layers"][int(layer)], None
        views = self._contrasted(temporal, spatial)
        views[0] = _recorded(views[0], attendable_BT)
        return [view.reshape(view.shape[0], -1) for view in views]

    def _contrasted(self, temporal: Array, spatial: Array | None) -> list[Array]:
        """The features of a view, through their projectors where there are some."""
        if self.contrast.layer != "embedder":
            spatial = None
        if self.contrast.enabled and self.contrast.projector != "none":
            temporal = self.projector(temporal)
            spatial = None if spatial is None else self.spatial_projector(spatial)
        return [temporal] if spatial is None else [temporal, spatial]


def _recorded(x_BTN: Array, attendable_BT: Array | None) -> Array:
    """Zero in bins that were not recorded."""
    return x_BTN if attendable_BT is None else jnp.where(attendable_BT[..., None], x_BTN, 0)
