"""The network: attention, layers, the whole, and the operations they are written in.

``build`` makes the network that a configuration names; ``register`` adds a class of one's own.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from stndt_jax.config.schema import ContrastConfig, ModelConfig
from stndt_jax.errors import UserError
from stndt_jax.models import attention, registry, stndt  # noqa: F401  they register the shipped classes
from stndt_jax.models.registry import check_result, find, register
from stndt_jax.types import Dims

__all__ = ["are_shipped", "build", "check_network", "register"]


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


def are_shipped(config: ModelConfig) -> bool:
    """Whether all classes that a configuration names are the package's own."""
    return registry.are_shipped({kind: getattr(config, kind) for kind in registry.TABLE})


def check_network(name: str, network: Any, dims: Dims) -> None:
    """Refuses a network of a fork's own that cannot be initialised or returns no log-rates.

    Args:
      name: that its class is registered by.
      network: as :func:`build` makes it.
      dims: sizes of one trial.

    Raises:
      UserError: it has no parameters, or its result is not that of the shipped network.
    """
    if name == "stndt":
        return
    x_BTN = jax.ShapeDtypeStruct((1, dims.bins, dims.neurons), jnp.float32)
    found, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), x_BTN)
    if "params" not in variables:
        raise UserError(f"the class registered as network {name!r} has no parameters to train")
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], dict):
        raise UserError(
            f"the class registered as network {name!r} must return log-rates and a dictionary of "
            f"intermediate results, as models.stndt.STNDT does"
        )
    check_result("network", name, found[0], (x_BTN.shape,))
