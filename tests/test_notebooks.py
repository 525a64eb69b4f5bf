"""The notebooks of examples/ run from their first cell to their last, shortened."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
# In place of the cell that says how much there is of everything.
SHORT: dict[str, str] = {
    "quickstart": 'FOLDER, MEMBERS, EPOCHS = "out", 2, 5\nDATA = {"trials": 40, "eval_trials": 20}',
    "your_own_data": 'FOLDER, EPOCHS, TRIALS = "out", 10, 40',
}
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_every_notebook_is_tried() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(SHORT)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_repository_holds_no_outputs(path: Path) -> None:
    for cell in read(path)["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="pip install 'stndt_jax[notebooks]'")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    # One device, as its readers have.
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    (settings,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    names = {line.split(" = ")[0] for line in settings.source.splitlines()}
    settings.source = SHORT[path.stem]
    assert all(name in settings.source for name in names)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, timeout=240, resources=resources)
    done = client.execute(env=dict(os.environ))
    outputs = [out for cell in done.cells for out in cell.get("outputs", [])]
    printed = "".join(out.get("text", "") for out in outputs if out.output_type == "stream")
    assert "co-bps" in printed
    wrong = [out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"]
    assert not wrong
    if path.stem == "quickstart":
        pictures = [out for out in outputs if "image/png" in out.get("data", {})]
        assert len(pictures) == 2 and (tmp_path / "out" / "report.html").stat().st_size > 50_000
