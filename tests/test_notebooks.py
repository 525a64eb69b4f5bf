"""The notebooks of examples/ have their outputs, and run from the first cell to the last."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
# Pictures of each, as its outputs in the repository and a new run have them.
PICTURES = {
    "change_the_attention": 1,
    "quickstart": 2,
    "real_recording": 3,
    "vmap_ensemble": 1,
    "your_own_data": 1,
}
RECORDING = ROOT / "docs" / "data" / "chewie_20131219.npz"


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def check_outputs(outputs: list[dict[str, Any]], name: str) -> None:
    """Scores and pictures are there, errors and warnings are not."""
    printed = "".join("".join(out["text"]) for out in outputs if out["output_type"] == "stream")
    assert "co-bps" in printed
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert len([o for o in outputs if "image/png" in o.get("data", {})]) == PICTURES[name]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept_so_that_it_can_be_read_without_running_it(path: Path) -> None:
    cells = code_cells(path)
    assert all(cell["execution_count"] for cell in cells)
    check_outputs([out for cell in cells for out in cell["outputs"]], path.stem)
    assert path.stat().st_size < 200_000
    assert not re.search(r"/(home|root|tmp|usr|Users|work)/", path.read_text())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_begins_with_what_is_learned_and_what_it_takes(path: Path) -> None:
    first = "".join(json.loads(path.read_text())["cells"][0]["source"])
    for word in ("**You will learn to**", "**Time**", "**Before**", "**Needs**"):
        assert word in first


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_uses_the_public_functions_alone(path: Path) -> None:
    source = "\n".join("".join(cell["source"]) for cell in code_cells(path))
    imports = re.findall(r"^(?:from|import) (stndt_jax\S*.*)$", source, re.MULTILINE)
    assert imports == ["stndt_jax as stndt"]


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is; it asserts itself that its models beat smoothed spikes."""
    nbclient = pytest.importorskip("nbclient", reason="pip install -e '.[notebooks]'")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("STNDT_RECORDING", str(RECORDING))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    # One device, as its readers have.
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, timeout=1200, resources=resources)
    done = client.execute(env=dict(os.environ))
    assert "assert" in "".join(cell.source for cell in done.cells)
    check_outputs([out for cell in done.cells for out in cell.get("outputs", [])], path.stem)
    if path.stem == "quickstart":
        assert (tmp_path / "quickstart" / "report.html").stat().st_size > 50_000
