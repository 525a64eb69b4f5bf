"""Every program that users run, lowered for GPUs and TPUs on a machine that has none.

The programs are traced as where the default backend is a GPU, so that nothing written for CPUs is
in them. What they lower to is read: which loops there are, and that matmuls carry the members.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_models
from stndt_jax.configs import tiny

from stndt_jax.config import schema
from stndt_jax.config.schema import Config
from stndt_jax.evaluation import few_shot
from stndt_jax.interpret import attention, integrated_gradients
from stndt_jax.models import fused_ops, threefry
from stndt_jax.parallel import lifts
from stndt_jax.training import population, step
from stndt_jax.training.step import Batch
from stndt_jax.types import Dims

PLATFORMS = ("cuda", "tpu")
TRIALS, BATCH, HEADS, LAYERS = 8, 4, 2, 2
SETTINGS = {
    "paper": {"contrast": {"enabled": True, "layer": "embedder"}},
    "factors": small_models.FACTORS,
}


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the package asks to know where it is; nothing is compiled for it."""
    lifts.compiler_options.cache_clear()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    yield
    lifts.compiler_options.cache_clear()


def config_of(name: str, members: int) -> Config:
    plain = tiny.get_config().to_dict()
    plain["population"] = members
    plain["model"] |= {"layers": LAYERS, "heads": HEADS}
    for section, values in SETTINGS[name].items():
        plain[section] |= values
    return schema.from_mapping(plain)


def dims_of(gaps: bool = False) -> Dims:
    return Dims(bins_observed=6, bins_forward=2, heldin=4, heldout=2, gaps=gaps)


def trials_like() -> Any:
    shape = (TRIALS, 8, 6)
    known: Any = jax.ShapeDtypeStruct(shape, jnp.bool_)
    counts: Any = jax.ShapeDtypeStruct(shape, jnp.uint8)
    return Batch(counts, known)


def placed(tree: Any, place: Any) -> Any:
    """The shapes of a tree on other devices."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree
    )


def lowered(program: Any, *given: Any) -> str:
    """The text of a jitted program, lowered for every platform; that of the first."""
    traced = program.trace(*given)
    first, *_ = [traced.lower(lowering_platforms=(name,)).as_text() for name in PLATFORMS]
    return str(first)


def chunk_text(config: Config, gaps: bool = False, grid: Any = None) -> str:
    arch = step.arch(config, dims_of(gaps), TRIALS // BATCH)
    members, hyper, trials = jax.tree.map(
        lambda place, leaves: placed(leaves, place),
        (lifts.of_members(grid), lifts.of_members(grid), lifts.of_all(grid)),
        (*population.abstract(config, arch), trials_like()),
    )
    chunk = population.make_chunk(config, arch, BATCH, True, grid)
    return lowered(chunk, members, hyper, trials, trials, np.int32(0), np.int32(1), np.bool_(True))


@pytest.mark.long
@pytest.mark.parametrize("name", SETTINGS)
def test_training_of_one(name: str) -> None:
    assert "tensor<1x" in chunk_text(config_of(name, 1))


@pytest.mark.long
def test_training_of_the_papers_model() -> None:
    assert "tensor<32x" in chunk_text(config_of("paper", 32))


@pytest.mark.long
@pytest.mark.parametrize("change", ["bfloat16", "remat", "restart", "rbg", "gaps"])
def test_training_otherwise(change: str) -> None:
    config = config_of("factors", 4)
    if change in ("bfloat16", "remat"):
        value: dict[str, Any] = {"dtype": "bfloat16"} if change == "bfloat16" else {"remat": True}
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, **value))
    if change == "restart":
        train = dataclasses.replace(config.train, on_divergence="restart", restarts=2)
        config = dataclasses.replace(config, train=train)
    if change == "rbg":
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, rng="rbg"))
    text = chunk_text(config, gaps=change == "gaps")
    assert ("bf16" in text) == (change == "bfloat16")


@pytest.mark.long
@pytest.mark.parametrize("data", [1, 2])
def test_training_on_several_devices(data: int) -> None:
    grid = lifts.mesh(4, data)
    assert grid is not None
    text = chunk_text(config_of("factors", 4), grid=grid)
    assert f"mhlo.num_partitions = {grid.size}" in text


@pytest.mark.parametrize("name", SETTINGS)
def test_initialisation(name: str) -> None:
    config = config_of(name, 32)
    arch = step.arch(config, dims_of(), 2)
    _, hyper = population.abstract(config, arch)
    lowered(population.make_init(arch), hyper)


def inferred() -> dict[str, tuple[Callable, tuple[Any, ...]]]:
    """What is computed from a trained network: the function, and what it is given beside."""
    real = jax.ShapeDtypeStruct((TRIALS,), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return {
        "rates": (step.rates, ()),
        "latents": (few_shot.latents, ()),
        "attention": (attention._attention_sums, (real,)),
        "gradients": (
            lambda arch, *given: integrated_gradients._integrate(arch, 4, 2, *given),
            (key,),
        ),
    }


@pytest.mark.parametrize("what", ["rates", "latents", "attention", "gradients"])
def test_inference(what: str) -> None:
    config = config_of("factors", 1)
    arch = step.arch(config, dims_of(), 2)
    members, hyper = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype),
        population.abstract(config, arch),
    )
    function, others = inferred()[what]
    run = lifts.compiled(functools.partial(function, step.inference(arch)))
    lowered(run, members.state.params, hyper, *trials_like(), *others)


def matmuls(text: str) -> list[str]:
    """The shapes of the results of the dot products of a program."""
    return re.findall(r"stablehlo\.dot_general.*-> tensor<([^>]*)>", text)


def test_members_are_a_dimension_and_nothing_loops_over_them() -> None:
    one, many = (chunk_text(config_of("factors", members)) for members in (2, 32))
    assert one.count("stablehlo.while") == many.count("stablehlo.while")
    assert len(matmuls(many)) == len(matmuls(one)) > 0
    assert all("32x" in shape for shape in matmuls(many)), sorted(set(matmuls(many)))


def test_random_bits_are_those_of_jax() -> None:
    def own(key: Any) -> Any:
        return threefry.bits(key, 100)

    def theirs(key: Any) -> Any:
        return jax.random.bits(key, (100,), jnp.uint32)

    texts = [lowered(jax.jit(bits), jax.random.key(3)) for bits in (own, theirs)]
    assert texts[0].replace("own", "theirs") == texts[1]


def test_sums_are_sums() -> None:
    def norm(x: Any) -> Any:
        return fused_ops.layer_norm(x, jnp.ones(5), jnp.zeros(5)).sum()

    text = lowered(jax.jit(jax.grad(norm)), jnp.ones((4, 5)))
    assert not matmuls(text) and "stablehlo.reduce" in text
