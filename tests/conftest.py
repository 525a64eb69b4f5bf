"""What every test runs under: eight CPU devices, shapes checked, nothing forgiven.

Warnings are errors by the settings in pyproject.toml.
"""

from __future__ import annotations

import gc
import os
from importlib import metadata
from pathlib import Path

# Before jax is imported, and in the environment, so that it also holds in commands a test starts.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    # Programs that run for milliseconds: the faster they compile, the better.
    + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    # Later versions of XLA do not have this flag, and abort on flags that they do not know.
    + " --xla_cpu_use_fusion_emitters=false" * metadata.version("jaxlib").startswith("0.10.")
)
os.environ["MPLBACKEND"] = "Agg"
# Many tests train the same small model: each program is compiled once, in whatever process.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
    Path(__file__).resolve().parents[1] / ".pytest_cache" / "compiled"
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.0"

import jax
import pytest
from jaxtyping import install_import_hook

from stndt_jax.console import progress

# Tests read all that is printed; which lines of progress there are depends on the machine's speed.
progress.FIRST_S = 1e6

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

jax.config.update("jax_numpy_rank_promotion", "raise")

# Tracing makes many objects and little garbage: collections that find nothing took a twentieth of
# the time.
gc.set_threshold(200_000, 100, 100)

# From here on every function of these packages checks the shapes and types its signature names. An
# int passes for a float, as it does for mypy.
SHAPED = ("data", "parallel", "models", "training", "evaluation", "ensembles", "interpret")
install_import_hook(
    [*(f"stndt_jax.{name}" for name in (*SHAPED, "interop", "run", "api"))],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

if REAL_DATA.is_dir():
    os.environ.setdefault("STNDT_DATA", str(REAL_DATA))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of recorded data."""
    if "STNDT_DATA" not in os.environ:
        pytest.skip("needs recorded data: name its folder in the environment variable STNDT_DATA")
    folder = Path(os.environ["STNDT_DATA"])
    if not folder.is_dir():
        pytest.skip(f"needs recorded data, but STNDT_DATA names no folder: {folder}")
    return folder
