"""Compares the model with numbers of the published PyTorch implementation.

    python tests/reference_parity.py tests/data/reference/*.npz

prints one JSON line a file: the largest error of log-rates, layer outputs, both attentions
and gradients, each relative to the array's largest magnitude, and of the losses, absolute.
Exits 1 if a forward or loss error is above 1e-5 or a gradient error above 1e-4.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from stndt_jax.configs import default

from stndt_jax.config import schema
from stndt_jax.interop import torch_params
from stndt_jax.models.layers import ForwardHyper
from stndt_jax.models.stndt import STNDT
from stndt_jax.training import losses
from stndt_jax.types import Dims

FORWARD_LIMIT = 1e-5
GRADIENT_LIMIT = 1e-4


def relative(ours: Any, theirs: np.ndarray) -> float:
    """Largest difference over the largest magnitude."""
    ours = np.asarray(ours, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.max(np.abs(ours - theirs)) / max(np.max(np.abs(theirs)), 1e-30))


def compare(path: str) -> dict[str, Any]:
    """The errors of one fixture."""
    with np.load(path, allow_pickle=False) as file:
        fixture = dict(file)
    published = json.loads(str(fixture["config"]))
    start = schema.from_mapping(default.get_config().to_dict())
    model, contrast = torch_params.options(published["model"], start.model, start.contrast)
    dims = Dims(*(published[name] for name in ("bins", "forward_bins", "heldin", "heldout")))
    group = lambda prefix: {  # noqa: E731
        name.removeprefix(prefix): fixture[name] for name in fixture if name.startswith(prefix)
    }
    params = torch_params.parameters(group("param/"), model, contrast, dims)
    network = STNDT(model, contrast, dims)
    window = (-1, -1) if model.full_context else (model.context_forward, model.context_backward)
    forward_hyper = ForwardHyper(*window, 0.0, 0.0, 0.0)
    labels = jnp.asarray(fixture["labels"])

    def loss(params: Any) -> tuple[Any, Any]:
        z, out = network.apply(
            {"params": params}, jnp.asarray(fixture["input"], jnp.float32), forward_hyper
        )
        nll = losses.poisson_nll(z, labels.astype(jnp.float32))
        poisson = losses.mean(*losses.masked_sum(nll, labels != -100))
        views = jnp.concatenate([jnp.asarray(fixture[v], jnp.float32) for v in ("view1", "view2")])
        features = network.apply({"params": params}, views, forward_hyper, method="features")
        contrastive = jnp.float32(0.0)
        for rows in features:
            per_row = losses.info_nce(jnp.asarray(rows), jnp.float32(contrast.temperature))
            contrastive = contrastive + contrast.weight * jnp.mean(per_row)
        return poisson + contrastive, (z, out, poisson, contrastive)

    with jax.default_matmul_precision("highest"):
        (total, aux), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    z, out, poisson, contrastive = aux
    their_grads = torch_params.parameters(group("grad/"), model, contrast, dims)
    same = jax.tree.map(relative, grads, their_grads)
    return {
        "file": pathlib.Path(path).name,
        "lograte": relative(z, fixture["lograte"]),
        "layer_outputs": relative(jnp.moveaxis(out["layers"], 0, -1), fixture["layer_outputs"]),
        "spatial_attention": relative(out["spatial_attention"], fixture["spatial_attention"]),
        "temporal_attention": relative(out["temporal_attention"], fixture["temporal_attention"]),
        "gradient": max(jax.tree.leaves(same)),
        "poisson_nll": abs(float(poisson) - float(fixture["poisson_nll"])),
        "contrastive": abs(float(contrastive) - float(fixture["contrastive"])),
        "loss": abs(float(total) - float(fixture["loss"])),
    }


def main(paths: list[str]) -> int:
    """Prints the errors of all files; 1 if any is above its limit."""
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    worst = 0
    for path in paths:
        errors = compare(path)
        print(json.dumps(errors))
        for name, error in errors.items():
            limit = GRADIENT_LIMIT if name == "gradient" else FORWARD_LIMIT
            worst |= name != "file" and not error <= limit
    return int(worst)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
