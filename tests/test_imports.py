"""The rooms of the package: who may import whom, and how long a file may be."""

from __future__ import annotations

import ast
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

from stndt_jax import losses

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "stndt_jax"
LONGEST = 450

# Everything may import these, and they import nothing of the package.
COMMON = {"errors", "types"}

# Room -> the rooms it may import. Imports point up this list only.
ROOMS: dict[str, set[str]] = {
    "": set(),
    "errors": set(),
    "types": set(),
    "config": set(),
    "data": set(),
    "data.checks": set(),
    "data.trials": {"data.checks"},
    "data.spikes": {"data.checks", "data.trials"},
    "data.synthetic": {"data.spikes"},
    "data.arrays": {"data.checks", "data.trials"},
    "data.nwb": {"data.checks"},
    "data.custom": {"data.nwb", "data.trials"},
    "data.nlb": {"data.checks", "data.nwb", "data.spikes"},
    "data.download": {"data.nlb"},
    "data.summary": {"data.checks", "data.nwb", "data.trials"},
    "data.export": {"data.arrays", "data.checks", "data.spikes"},
    "draws": set(),
    "ops": set(),
    "masking": {"config", "draws"},
    "shares": set(),
    "model": {"config", "draws", "ops", "shares"},
    "losses": set(),
    "metrics": set(),
    "optim": {"config"},
    "selection": set(),
    "step": {"config", "masking", "model", "losses", "metrics", "optim", "shares"},
    "parallel": set(),
    "hosts": set(),
    "pmapped": {"parallel", "shares"},
    "checkpoint": {"config", "hosts"},
    "log": set(),
    "interrupt": set(),
    "lock": set(),
    "workdir": {"config", "data.spikes"},
    "places": {"config", "workdir"},
    "configfile": {"config", "workdir"},
    "batches": {"config", "data.spikes", "step"},
    "population": {"config", "optim", "parallel", "pmapped", "selection", "step"},
    "compact": {"config", "hosts", "parallel", "population"},
    "fit": {"config", "data.spikes", "step", "batches", "hosts", "population", "workdir"},
    "train": {
        *("config", "data.spikes", "step", "batches", "parallel", "population"),
        *("compact", "checkpoint", "hosts", "interrupt", "lock", "log", "workdir"),
    },
    "scoring": {"data.spikes"},
    "baselines": {"data.spikes", "scoring", "metrics"},
    "latents": {"data.spikes", "baselines"},
    "intervals": set(),
    "choice": set(),
    "torch_file": set(),
    "torch_import": {"config", "model"},
    "evaluate": {
        *("config", "data.spikes", "step", "parallel", "checkpoint", "workdir"),
        *("batches", "population", "scoring", "intervals", "places"),
    },
    "rates_file": {"data.checks", "data.spikes", "scoring"},
    "others": {"workdir"},
    "bring": {
        *("config", "configfile", "data.spikes", "torch_file", "torch_import", "step"),
        *("batches", "checkpoint", "parallel", "population", "selection", "workdir"),
    },
    "stored": {"config", "step", "population", "checkpoint", "workdir"},
    "finetune": {"config", "step", "population", "selection", "hosts", "stored", "workdir"},
    "cut": {"config", "checkpoint", "log", "stored", "workdir"},
    "ensemble": {
        *("data.spikes", "step", "batches", "checkpoint", "workdir", "places", "choice", "cut"),
        "evaluate",
    },
    "retrain": {
        *("config", "data.spikes", "batches", "train", "workdir", "places", "evaluate"),
        "ensemble",
    },
    "runs": {"log", "places", "workdir"},
    "seeds": {"config", "data.spikes", "batches", "intervals", "log", "train", "workdir"},
    "fewshot": {
        *("config", "data.spikes", "masking", "model", "metrics", "step", "baselines"),
        "evaluate",
    },
    "loader": set(),
    "export": {"config", "data.checks", "step", "workdir", "evaluate", "loader"},
    "plots": set(),
    "plots_data": {"plots"},
    "plots_many": {"plots"},
    "plots_search": {"plots"},
    "space": {"config"},
    "study": {"space"},
    "pruning": {"workdir", "study"},
    "search": {
        *("config", "data.spikes", "evaluate", "lock", "log", "train", "workdir"),
        *("space", "study", "pruning"),
    },
    "driver": {"search"},
    "ray_pool": {"driver", "search"},
    "search_results": {"lock", "workdir", "study", "plots", "plots_search"},
    "probe": {"config", "data.spikes", "masking", "step", "parallel", "evaluate"},
    "importance": set(),
    "gradients": {"config", "data.spikes", "step", "parallel", "evaluate", "probe"},
    "interpret": {"data.spikes", "evaluate", "probe", "importance", "gradients"},
    "interpret_files": {"data.checks", "workdir", "importance", "interpret"},
    "dropping": {"workdir", "scoring", "evaluate", "probe"},
    "plots_rates": {"plots"},
    "plots_attention": {"plots", "dropping"},
    "figures_rates": {
        *("data.spikes", "scoring", "baselines", "evaluate", "probe", "plots", "plots_rates"),
    },
    "figures": {
        *("log", "workdir", "evaluate", "interpret", "dropping", "plots", "plots_attention"),
        "figures_rates",
    },
    "loaded": {
        *("config", "data.spikes", "workdir", "evaluate", "scoring", "log", "others"),
        *("interpret", "interpret_files"),
    },
    "published": set(),
    "report": set(),
    "report.markup": set(),
    "report.charts": {"report.markup"},
    "report.tables": {"report.markup", "report.charts"},
    "report.published": {"published"},
    "report.explorer": {"loaded", "report.markup"},
    "report.about": {
        *("config", "configfile", "data.spikes", "data.summary", "workdir", "loaded"),
        *("report.markup", "report.tables"),
    },
    "report.pictures": {
        *("dropping", "figures", "importance", "interpret", "loaded"),
        *("report.markup", "report.tables"),
    },
    "report.page": {
        *("baselines", "data.spikes", "evaluate", "loaded", "others", "scoring", "workdir"),
        *(
            f"report.{name}"
            for name in ("markup", "about", "charts", "explorer", "pictures", "published")
        ),
        "report.tables",
    },
    "report.compare": {
        *("config", "loaded"),
        *(f"report.{name}" for name in ("about", "charts", "markup", "page", "tables")),
    },
    "search_plan": {
        *("batches", "config", "configfile", "data.spikes", "evaluate", "fit", "search"),
        *("space", "workdir"),
    },
    "reproduce_report": {"published", "workdir"},
}
ROOMS["reproduce"] = set(ROOMS)
ROOMS["demo"] = set(ROOMS)
ROOMS["commands"] = set()
ROOMS["commands.common"] = set()
ROOMS["commands.bring"] = set(ROOMS)
ROOMS["commands.first"] = set(ROOMS)
ROOMS["commands.data"] = set(ROOMS)
ROOMS["commands.search"] = set(ROOMS)
ROOMS["commands.reproduce"] = set(ROOMS)
ROOMS["commands.take"] = set(ROOMS)
ROOMS["commands.many"] = set(ROOMS)
ROOMS["commands.show"] = set(ROOMS)
ROOMS["commands.look"] = set(ROOMS)
ROOMS["cli"] = set(ROOMS)
ROOMS["__main__"] = {"cli"}

# These run on a machine with nothing but jax, flax, optax and numpy.
NUMERICAL = {
    *COMMON,
    *("config", "masking", "model", "losses", "metrics", "optim", "selection", "step", "parallel"),
    *("loader", "population", "choice"),
    *("draws", "loader", "ops", "population", "pmapped", "shares"),
}
BARE = {"jax", "flax", "optax", "numpy"}
# types.py also tries jaxtyping, and does without.
BARE_ALSO = {"types": {"jaxtyping"}}

# Package -> the only files that import it, wherever in them the import stands.
HOMES: dict[str, set[str]] = {
    "orbax": {"checkpoint"},
    "pandas": {"data.nlb"},
    "pynwb": {"data.export"},
    "hdmf": {"data.export"},
    "xarray": {"data.export", "loaded"},
    "dandi": {"data.download"},
    "requests": {"data.download"},
    "nlb_tools": {"data.nlb"},
    "nlb_tools.evaluation": {"scoring"},
    "torch": {"torch_import"},
    "optuna": {"study"},
    "ray": {"ray_pool"},
    "elephant": {"latents"},
    "dynamax": {"latents"},
    "ml_collections": {"configfile", "configs"},
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


def room_of(path: Path) -> str:
    """``data/spikes.py`` -> ``data.spikes``; a package's own file is the package."""
    parts = list(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {room_of(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def rooms_of_file(room: str, path: Path) -> Iterator[tuple[str, int]]:
    """The rooms that a file imports, each with its line."""
    module = f"{PACKAGE}.{room}".rstrip(".")
    for name, line, _ in imports_of(path.read_text(), module, path.stem == "__init__"):
        if name != PACKAGE and not name.startswith(PACKAGE + "."):
            continue
        inner = name[len(PACKAGE) + 1 :]
        if inner == "configs" or inner.startswith("configs."):
            yield "configs", line
            continue
        # The longest part of the name that is a module: the rest is a name inside it.
        while inner not in MODULES and inner not in ROOMS:
            inner = inner.rpartition(".")[0]
        yield inner, line


def third_parties(path: Path, module: str) -> list[Import]:
    everything = imports_of(path.read_text(), module, path.stem == "__init__")
    own = {PACKAGE, "configs", "__future__", *sys.stdlib_module_names}
    return [found for found in everything if found.name.split(".")[0] not in own]


def test_the_table_points_up_only():
    order = list(ROOMS)
    for room, allowed in ROOMS.items():
        for other in allowed - COMMON:
            assert other in ROOMS, f"{room} may import {other}, which is no room"
            assert order.index(other) < order.index(room), f"{room} stands above {other}"


@pytest.mark.parametrize("room", MODULES)
def test_imports_point_up_the_list(room: str):
    path = MODULES[room]
    where = path.relative_to(ROOT)
    assert room in ROOMS, (
        f"{where} is not in ROOMS of {Path(__file__).name}: add it below what it may import"
    )
    # "" is the package itself: its __version__ is everyone's.
    allowed = {""} if room in COMMON else {"", *COMMON, *ROOMS[room]}
    if room in {"configfile", "cli", "demo"}:
        allowed.add("configs")
    for other, line in rooms_of_file(room, path):
        assert other in allowed, f"{where}:{line} imports {other or PACKAGE}, which it may not"


@pytest.mark.parametrize("room", [room for room in MODULES if room in NUMERICAL])
def test_numerical_rooms_need_jax_flax_optax_and_numpy_only(room: str):
    for name, line, at_import in third_parties(MODULES[room], f"{PACKAGE}.{room}"):
        top = name.split(".")[0]
        if at_import and top not in BARE | BARE_ALSO.get(room, set()):
            pytest.fail(f"{MODULES[room].relative_to(ROOT)}:{line} imports {name}")


@pytest.mark.parametrize("path", [*MODULES.values(), *CONFIGS], ids=lambda path: path.stem)
def test_third_parties_keep_to_their_homes(path: Path):
    room = "configs" if path in CONFIGS else room_of(path)
    for name, line, _ in third_parties(path, f"{PACKAGE}.{room}".rstrip(".")):
        parts = name.split(".")
        # The longest entry wins: nlb_tools.evaluation before nlb_tools.
        prefixes = [".".join(parts[:stop]) for stop in range(len(parts), 0, -1)]
        home = next((HOMES[prefix] for prefix in prefixes if prefix in HOMES), None)
        assert home is None or room in home, (
            f"{path.relative_to(ROOT)}:{line} imports {name}; only {sorted(home)} may"
        )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_stay_at_the_door(path: Path):
    """They know each other and the names of the keys; nothing that computes."""
    for name, line, _ in imports_of(path.read_text(), f"{PACKAGE}.configs.{path.stem}"):
        package, room, *_ = [*name.split("."), ""]
        if package in {PACKAGE, "configs"}:
            good = package == PACKAGE and room in {"configs", "config", "errors"}
            assert good, f"configs/{path.name}:{line} imports {name}"


def test_numerical_rooms_import_on_a_bare_machine():
    """In a new interpreter where what the rooms must not need cannot be imported."""
    code = """
import importlib, sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
for name in sys.argv[2].split(","):
    importlib.import_module(name)
"""
    absent = "beartype,h5py,jaxtyping,ml_collections,orbax,pandas,sklearn,tensorboardX,torch"
    rooms = [f"{PACKAGE}.{room}" for room in MODULES if room in NUMERICAL]
    done = subprocess.run(
        [sys.executable, "-c", code, absent, ",".join(rooms)],
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


@pytest.mark.parametrize("folder", [PACKAGE, "configs", "tests", "benchmarks"])
def test_no_file_is_too_long(folder: str):
    for path in sorted((ROOT / folder).rglob("*.py")):
        lines = len(path.read_text().splitlines())
        assert lines <= LONGEST, f"{path.relative_to(ROOT)} has {lines} lines: split it"


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
