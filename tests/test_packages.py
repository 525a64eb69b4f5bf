"""The packages: who may import whom, and how long a function may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from stndt_jax.training import losses

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "stndt_jax"
LONGEST = 60

# The packages and the modules beside them, in order: each imports itself and those above it.
PACKAGES = [
    *(
        "",
        "errors",
        "types",
        "files",
        "console",
        "data",
        "config",
        "parallel",
        "models",
        "runs",
        "training",
    ),
    *("evaluation", "ensembles", "interpret", "plotting", "search", "interop", "run", "report"),
    *("api", "workflows", "cli", "__main__"),
]

# These run on a machine with nothing but jax, flax, optax and numpy.
NUMERICAL = {
    *("errors", "types", "config.schema", "ensembles.selection", "interop.stablehlo_loader"),
    *(
        f"models.{name}"
        for name in ("attention", "fused_ops", "layers", "registry", "stndt", "threefry")
    ),
    *(f"parallel.{name}" for name in ("batch_shard", "lifts", "pmap")),
    *(
        f"training.{name}"
        for name in (
            *("best_weights", "losses", "masking", "metrics", "optim", "population", "step"),
        )
    ),
}
BARE = {"jax", "flax", "optax", "numpy"}
# types.py also tries jaxtyping, and does without.
BARE_ALSO = {"types": {"jaxtyping"}}

# Third-party package -> the only files that import it, wherever in them the import stands.
HOMES: dict[str, set[str]] = {
    "orbax": {"runs.checkpoint"},
    "pandas": {"data.nlb"},
    "pyarrow": {"data.table_files"},
    "pynwb": {"data.export"},
    "hdmf": {"data.export"},
    "xarray": {"data.export", "run"},
    "dandi": {"data.dandi"},
    "requests": {"data.dandi"},
    "nlb_tools": {"data.nlb"},
    "nlb_tools.evaluation": {"evaluation.scoring"},
    "torch": {"interop.torch_params"},
    "optuna": {"search.study", "search.journal"},
    "ray": {"search.ray_executor"},
    "rich": {"console.progress", "console.tables"},
    "elephant": {"evaluation.latent_baselines"},
    "dynamax": {"evaluation.latent_baselines"},
    "ml_collections": {"config.loading", "configs"},
}


class Import(NamedTuple):
    """One imported module, or what may be one: ``from a import b`` gives ``a.b``."""

    name: str
    line: int
    at_import: bool  # False inside a function or under TYPE_CHECKING


def imports_of(source: str, module: str, is_package: bool = False) -> list[Import]:
    found: list[Import] = []

    def walk(node: ast.AST, at_import: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = module.split(".")[: None if is_package else -1]
                up = up[: len(up) - node.level + 1]
                base = ".".join([*up, base]).rstrip(".")
            found.extend(Import(f"{base}.{a.name}", node.lineno, at_import) for a in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                walk(statement, False)
            for statement in node.orelse:
                walk(statement, at_import)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                walk(child, at_import and not inside)

    walk(ast.parse(source), True)
    return found


def module_of(path: Path) -> str:
    """``data/hdf5.py`` -> ``data.hdf5``; a package's own file is the package."""
    parts = list(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def imported_packages(module: str, path: Path) -> Iterator[tuple[str, int]]:
    """The packages of ours that a file imports, each with its line."""
    full = f"{PACKAGE}.{module}".rstrip(".")
    for name, line, _ in imports_of(path.read_text(), full, path.stem == "__init__"):
        own, _, inner = name.partition(".")
        if own == PACKAGE:
            package = inner.split(".")[0]
            yield package if package in {*PACKAGES, "configs"} else "", line


def third_parties(path: Path, module: str) -> list[Import]:
    everything = imports_of(path.read_text(), module, path.stem == "__init__")
    own = {PACKAGE, "configs", "__future__", *sys.stdlib_module_names}
    return [found for found in everything if found.name.split(".")[0] not in own]


def test_every_module_has_a_package_and_few_lie_beside_them():
    assert {module.split(".")[0] for module in MODULES} == set(PACKAGES)
    assert len([path for path in MODULES.values() if path.parent == ROOT / PACKAGE]) <= 8


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_up_the_list(module: str):
    path = MODULES[module]
    allowed = PACKAGES[: PACKAGES.index(module.split(".")[0]) + 1]
    if not module:
        # It names the public functions for type checkers, and imports none of them.
        allowed = PACKAGES
    if module in {"config.loading", "cli.main", "workflows.demo"}:
        allowed = [*allowed, "configs"]
    for other, line in imported_packages(module, path):
        where = f"{path.relative_to(ROOT)}:{line}"
        assert other in allowed, f"{where} imports {other}, which stands below it in PACKAGES"


@pytest.mark.parametrize("module", sorted(NUMERICAL))
def test_numerical_modules_need_jax_flax_optax_and_numpy_only(module: str):
    for name, line, at_import in third_parties(MODULES[module], f"{PACKAGE}.{module}"):
        top = name.split(".")[0]
        if at_import and top not in BARE | BARE_ALSO.get(module, set()):
            pytest.fail(f"{MODULES[module].relative_to(ROOT)}:{line} imports {name}")


@pytest.mark.parametrize("path", [*MODULES.values(), *CONFIGS], ids=lambda path: path.stem)
def test_third_parties_keep_to_their_homes(path: Path):
    module = "configs" if path in CONFIGS else module_of(path)
    for name, line, _ in third_parties(path, f"{PACKAGE}.{module}".rstrip(".")):
        parts = name.split(".")
        # The longest entry wins: nlb_tools.evaluation before nlb_tools.
        prefixes = [".".join(parts[:stop]) for stop in range(len(parts), 0, -1)]
        home = next((HOMES[prefix] for prefix in prefixes if prefix in HOMES), None)
        assert home is None or module in home, (
            f"{path.relative_to(ROOT)}:{line} imports {name}; only {sorted(home)} may"
        )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_stay_at_the_door(path: Path):
    """They know each other and the names of the keys; nothing that computes."""
    for name, line, _ in imports_of(path.read_text(), f"{PACKAGE}.configs.{path.stem}"):
        package, inner, *_ = [*name.split("."), ""]
        if package in {PACKAGE, "configs"}:
            good = package == PACKAGE and inner in {"configs", "config", "errors"}
            assert good, f"configs/{path.name}:{line} imports {name}"


def test_numerical_modules_import_on_a_bare_machine():
    """In a new interpreter where what they must not need cannot be imported."""
    code = """
import importlib, sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
for name in sys.argv[2].split(","):
    importlib.import_module(name)
"""
    absent = "beartype,h5py,jaxtyping,ml_collections,orbax,pandas,sklearn,tensorboardX,torch"
    modules = [f"{PACKAGE}.{module}" for module in sorted(NUMERICAL)]
    done = subprocess.run(
        [sys.executable, "-c", code, absent, ",".join(modules)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_package_itself_imports_nothing():
    code = "import sys; import stndt_jax; print('numpy' in sys.modules, 'jax' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def long_functions(path: Path) -> Iterator[str]:
    """Functions of more than ``LONGEST`` lines of code, docstring apart."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]
            if lines > LONGEST:
                yield f"{path.relative_to(ROOT)}: {node.name} has {lines} lines"


def test_no_function_is_too_long():
    found = [text for path in [*MODULES.values(), *CONFIGS] for text in long_functions(path)]
    assert not found, "; ".join(found)


@pytest.mark.parametrize("module", MODULES)
def test_tables_are_not_aligned_by_hand(module: str):
    """Formats with a width of columns stand nowhere; console.tables aligns. Zeros may be padded."""
    source = MODULES[module].read_text()
    found = re.findall(r"[lr]just\(|:[<>^]\{?\d|\{[^{}\n]*:[1-9]\d*(?:\.\d+)?[a-z]?\}", source)
    assert not found


def test_the_imports_are_found():
    """The reader itself, on each form an import takes."""
    source = """
import os, jax.numpy as jnp
from stndt_jax import model
from stndt_jax.data.spikes import read
from . import near
from .. import far
from ..types import Array
if TYPE_CHECKING:
    import typed
else:
    import real
try:
    import tried
except ImportError:
    pass
class C:
    import held
    def f(self):
        import lazy
"""
    found = {(name, at_import) for name, _, at_import in imports_of(source, "stndt_jax.data.nwb")}
    assert found == {
        ("os", True),
        ("jax.numpy", True),
        ("stndt_jax.model", True),
        ("stndt_jax.data.spikes.read", True),
        ("stndt_jax.data.near", True),
        ("stndt_jax.far", True),
        ("stndt_jax.types.Array", True),
        ("typed", False),
        ("real", True),
        ("tried", True),
        ("held", True),
        ("lazy", False),
    }


def test_the_settings_are_strict():
    """conftest.py and pyproject.toml took effect."""
    assert jax.default_backend() == "cpu"
    assert jax.device_count() == 8
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)
    with pytest.raises(UserWarning, match="an error here"):
        warnings.warn("an error here", stacklevel=1)
    with pytest.raises(TypeCheckError):
        losses.masked_sum(jnp.ones((2, 3)), jnp.ones((2, 3)))
