"""Every writer of the package goes through files.py, which writes files whole or not at all.

A call that writes is accepted where its file is a temporary one of ``files.replacing`` or
``files.filling``, or an image in memory; ``EXCEPTIONS`` lists the others.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "stndt_jax"

# Methods and functions that write, whatever their arguments are.
WRITERS = {
    *("write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "link", "symlink"),
    *("rename", "renames", "savez", "savez_compressed", "savetxt", "tofile", "savefig"),
    *("open_memmap", "to_netcdf", "to_zarr", "to_csv", "to_hdf", "to_parquet"),
    *("to_feather", "to_pickle", "to_excel", "copyfile", "copy2", "copytree", "move"),
    *("NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile", "mkdtemp", "mkstemp"),
    *("mknod", "mkfifo", "fdopen", "extractall", "write_image"),
}
# These write if a mode says so, which is their argument of this number or of the name "mode".
MODES = {
    "open": 1,
    "File": 1,
    "NWBHDF5IO": 1,
    "ZipFile": 1,
    "memmap": 2,
    "TarFile": 1,
    "GzipFile": 1,
}
# These write if they are functions of these modules.
OF_MODULES = {
    ("np", "save"), ("numpy", "save"), ("ocp", "save"), ("torch", "save"), ("os", "replace"),
    ("shutil", "copy"), ("json", "dump"), ("pickle", "dump"), ("yaml", "dump"),
    ("os", "open"), ("tarfile", "open"), ("os", "write"),
}  # fmt: skip
TEMPORARY = {"replacing", "filling"}
IMAGES = {"BytesIO", "StringIO"}

# Module, or module and function -> why it need not go through files.py.
EXCEPTIONS = {
    "files": "is the module itself",
    "runs.lock": "lock files are held open, not replaced",
    "runs.signals:Stop._note": "writes to the terminal, in a handler of signals",
    "cli.main:main": "the standard output becomes /dev/null when its reader is gone",
    "data.transfer:fetch": "renames the partial of files.resuming after its digest was checked",
    "data.export:_reserve": "enlarges a temporary file of files.replacing, for _write_nwb",
    "parallel.compile_cache:keep_compiled": "an empty file, removed at once, shows that one can be",
    "runs.checkpoint:Checkpoints._set_aside": "renames a damaged checkpoint",
    "runs.checkpoint:Checkpoints._write": "Orbax writes; digests, written last, tell what is whole",
    "runs.directory:make": "an empty file, removed at once, shows that one can be written",
    "runs.directory:set_aside": "renames a whole run directory",
    "runs.recording:_keep": "a temporary directory of the system, only to compare fingerprints",
    "workflows.doctor:locks": "an empty file, removed at once, shows that locks work",
}


class Call(NamedTuple):
    """A call that writes: where, in which function, and of what."""

    place: str
    line: int
    name: str


def dotted(node: ast.expr) -> tuple[str, str]:
    """The last two parts of the name of what is called: ``a.b.c`` as ``("b", "c")``."""
    if isinstance(node, ast.Attribute):
        owner = node.value
        last = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        return last, node.attr
    return "", getattr(node, "id", "")


def may_write(call: ast.Call) -> bool:
    """Whether a call may write to the disk."""
    owner, name = dotted(call.func)
    if owner == "files":
        return False
    if name in WRITERS or (owner, name) in OF_MODULES:
        return True
    if name == "replace":  # str.replace takes two, dataclasses.replace names its values
        return len(call.args) == 1 and not call.keywords and not isinstance(call.func, ast.Name)
    if name not in MODES:
        return False
    # path.open(mode) has no path among its arguments; gzip.open(path, mode) has.
    method = name == "open" and isinstance(call.func, ast.Attribute) and owner != "gzip"
    at = 0 if method else MODES[name]
    given = [word.value for word in call.keywords if word.arg == "mode"]
    mode = next(iter(given), call.args[at] if len(call.args) > at else None)
    if name == "open" and method and mode is not None and not isinstance(mode, ast.Constant):
        return False  # a method of ours, such as Board.open(folder)
    if isinstance(mode, ast.Constant) and isinstance(mode.value, str):
        return bool(set("wax+") & set(mode.value))
    return mode is not None or name in ("File", "NWBHDF5IO", "memmap")  # without a mode


def temporaries(function: ast.AST) -> set[str]:
    """Names in a function of temporary files and directories, and of images in memory."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.withitem) and isinstance(node.context_expr, ast.Call):
            made = dotted(node.context_expr.func)[1]
            if made in TEMPORARY and isinstance(node.optional_vars, ast.Name):
                found.add(node.optional_vars.id)
            if made == "File" and _first(node.context_expr) in found:
                assert isinstance(node.optional_vars, ast.Name)
                found.add(node.optional_vars.id)
        match node:
            case ast.Assign([ast.Name(name)], ast.Call() as call) if dotted(call.func)[1] in IMAGES:
                found.add(name)
    return found


def _first(call: ast.Call) -> str:
    """The name that a call begins with: of its object, its first argument, or its file."""
    for node in [*call.args, *(word.value for word in call.keywords if word.arg == "file")]:
        if isinstance(node, ast.BinOp):  # folder / "name"
            node = node.left
        if isinstance(node, ast.Name):
            return node.id
        break
    return ""


def _touches(call: ast.Call, names: set[str]) -> bool:
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    if isinstance(owner, ast.BinOp):
        owner = owner.left
    given = [_first(call), *(arg.id for arg in call.args if isinstance(arg, ast.Name))]
    return (isinstance(owner, ast.Name) and owner.id in names) or bool(names & set(given))


def writers(source: str, module: str) -> Iterator[Call]:
    """The calls of a module that write, and not to a temporary file or an image in memory."""

    def walk(node: ast.AST, name: str, safe: set[str]) -> Iterator[Call]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{name}.{node.name}" if name else node.name
            if not isinstance(node, ast.ClassDef):
                safe = safe | temporaries(node)
        if isinstance(node, ast.Call) and may_write(node) and not _touches(node, safe):
            yield Call(f"{module}:{name}", node.lineno, dotted(node.func)[1])
        for child in ast.iter_child_nodes(node):
            yield from walk(child, name, safe)

    yield from walk(ast.parse(source), "", set())


def found_in_package() -> list[Call]:
    found: list[Call] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found += writers(path.read_text(), module)
    return found


def excepted(call: Call) -> str | None:
    """The entry of ``EXCEPTIONS`` that a call falls under."""
    return next(
        (key for key in (call.place, call.place.partition(":")[0]) if key in EXCEPTIONS), None
    )


def test_every_writer_goes_through_files() -> None:
    found = found_in_package()
    others = [call for call in found if excepted(call) is None]
    assert not others, (
        f"{others} write without files.py: use files.write_bytes, files.replacing or "
        f"files.filling, or give a reason in EXCEPTIONS"
    )
    unused = set(EXCEPTIONS) - {excepted(call) for call in found}
    assert not unused, f"{unused} in EXCEPTIONS write nothing any more; remove them"


@pytest.mark.parametrize(
    "line",
    [
        *("open(p, 'w')", "open(p, mode='ab')", "p.open('r+b')", "(a / 'b').open('x')"),
        *("p.write_text('')", "p.with_name('b').write_bytes(b'')", "p.rename(q)", "p.replace(q)"),
        *("h5py.File(p, 'a')", "h5py.File(p)", "pynwb.NWBHDF5IO(p, 'w')", "np.save(p, x)"),
        *("np.savez(p, x=x)", "fig.savefig(p)", "data.to_netcdf(p)", "shutil.copy(p, q)"),
        *("json.dump(x, f)", "os.replace(p, q)", "zipfile.ZipFile(p, 'w')", "os.open(p, flags)"),
        *("gzip.open(p, 'wb')", "np.lib.format.open_memmap(p, 'w+', t, s)", "open(p, mode)"),
        *("np.memmap(p)", "np.memmap(p, mode='r+')"),
    ],
)
def test_writers_are_found(line: str) -> None:
    assert len(list(writers(f"def f(p, q, x):\n    {line}\n", "m"))) == 1
    assert len(list(writers(f"{line}\n", "m"))) == 1


@pytest.mark.parametrize(
    "code",
    [
        *("open(p)", "open(p, 'rb')", "p.open('rb')", "h5py.File(p, 'r')", "zipfile.ZipFile(p)"),
        *("'ab'.replace('a', 'b')", "dataclasses.replace(x, a=1)", "np.load(p, mmap_mode='r')"),
        *("np.memmap(p, np.uint8, 'r')", "np.memmap(p, mode='c')"),
        *("files.write_text(p, '')", "Board.open(folder)", "style.save(figure, p)"),
        "with files.replacing(p) as part: np.savez(part, x=x)",
        "with files.replacing(p) as part, part.open('wb') as file: file.write(b'')",
        "with files.filling(p) as folder: (folder / 'a').write_text('')",
        "image = io.BytesIO(); h5py.File(image, 'w')",
    ],
)
def test_what_reads_or_is_temporary_is_no_writer(code: str) -> None:
    assert not list(writers(f"def f(p, q, x):\n    {code}\n", "m"))
