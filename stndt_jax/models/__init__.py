"""The network: attention, layers, the whole, and the operations they are written in.

``build`` makes the network that a configuration names; ``register`` adds a class of one's own.
"""

from __future__ import annotations

from typing import Any

from stndt_jax.config.schema import ContrastConfig, ModelConfig
from stndt_jax.models import attention, stndt  # noqa: F401  they register the shipped classes
from stndt_jax.models.registry import find, register
from stndt_jax.types import Dims

__all__ = ["build", "register"]


def build(config: ModelConfig, contrast: ContrastConfig, dims: Dims, token: str = "zero") -> Any:
    """The Flax module that a configuration names.

    Args:
      config: architecture; ``config.network`` names the class, ``config.temporal_attention`` and
        ``config.spatial_attention`` those of its attention.
      contrast: which features the contrastive loss compares.
      dims: sizes of one trial.
      token: what stands for a masked entry, ``config.mask.token``.

    Returns:
      A module with the methods of :class:`stndt_jax.models.stndt.STNDT`.

    Raises:
      UserError: a class is not registered.
    """
    for kind in ("temporal_attention", "spatial_attention"):
        find(kind, getattr(config, kind))
    return find("network", config.network)(config=config, contrast=contrast, dims=dims, token=token)
