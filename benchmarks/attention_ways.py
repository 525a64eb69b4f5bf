"""Attention over time as the model has it against JAX's own, plain and fused (cuDNN).

    python benchmarks/attention_ways.py --config=mc_maze_factors --dtype=bfloat16

times forward and backward pass of one layer's attention without dropout, from the fused projection
to what the heads return, after checking that all ways return the same. The ways:

* ``heads``: one head after another, as in ``models/attention.py``;
* ``xla``: ``jax.nn.dot_product_attention``;
* ``cudnn``: the same, fused; NVIDIA only, 16-bit only. It has no dropout of weights and returns no
  weights, so the model would use it for rates alone.

A way that is refused here is listed with the reason.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np
import sizes

from stndt_jax.models.attention import attention_weights, context_mask, heads_of

TOLERANCES = {"float32": 1e-5, "bfloat16": 3e-2}
WAYS = ("heads", "xla", "cudnn")


def way(name: str, heads: int, mask_TT: Any) -> Callable[[Any], Any]:
    """``(B, T, 3 D) -> (B, T, D)``."""

    def one_by_one(qkv: Any) -> Any:
        outputs = [
            jnp.matmul(attention_weights(q, k, mask_TT[None]).astype(v.dtype), v)
            for q, k, v in heads_of(qkv, 3, heads)
        ]
        return jnp.concatenate(outputs, axis=-1)

    def at_once(qkv: Any) -> Any:
        B, T, _ = qkv.shape
        q, k, v = (part.reshape(B, T, heads, -1) for part in jnp.split(qkv, 3, axis=-1))
        found = jax.nn.dot_product_attention(
            q, k, v, mask=mask_TT[None, None], implementation="cudnn" if name == "cudnn" else "xla"
        )
        return found.reshape(B, T, -1)

    return one_by_one if name == "heads" else at_once


def measure(size: str, dtype: str, members: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of each way."""
    config, dims = sizes.setting(size, 1, dtype)
    D, H = config.model.width or dims.neurons, config.model.heads
    shape = (members * config.train.batch, dims.bins, 3 * D)
    qkv = jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype)
    mask_TT = context_mask(dims.bins, 30, 30)
    found: dict[str, Any] = {"config": size, "dtype": dtype, "trials": shape[0], "ways": {}}
    expected = None
    for name in WAYS:
        attend = way(name, H, mask_TT)

        def loss(qkv: Any, attend: Callable[[Any], Any] = attend) -> Any:
            return jnp.sum(attend(qkv).astype(jnp.float32) ** 2)

        try:
            value = np.asarray(jax.jit(attend)(qkv), np.float32)
            gradient = jax.jit(jax.grad(loss))
            times = machine.timed(lambda gradient=gradient: gradient(qkv), repeats)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            found["ways"][name] = {"refused": str(error).splitlines()[0]}
            continue
        expected = value if expected is None else expected
        difference = float(np.max(np.abs(value - expected)))
        if difference > TOLERANCES[dtype]:
            raise SystemExit(f"{name} returns other numbers: {difference}")
        ms = machine.summary(times)["ms_per_step"]
        found["ways"][name] = {"ms": ms, "difference": difference}
    return found


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="mc_maze_factors", choices=sorted(sizes.SIZES))
    parser.add_argument("--dtype", default="float32", choices=sorted(TOLERANCES))
    parser.add_argument("--members", type=int, default=1, help="whose trials are attended together")
    parser.add_argument("--repeats", type=int, default=10)
    flags = parser.parse_args()
    found = measure(flags.config, flags.dtype, flags.members, flags.repeats)
    machine.show(found | machine.about())


if __name__ == "__main__":
    main()
