"""A driver and its pool: populations of dead workers go to others, mistakes end the search."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.recordings import small_reach

from stndt_jax.config import loading
from stndt_jax.errors import UserError
from stndt_jax.runs import recording
from stndt_jax.search import executor, worker
from stndt_jax.search import space as spaces
from stndt_jax.search.study import Study
from stndt_jax.search.worker import Plan, Search

LAUNCH = Path(__file__).resolve().parents[1] / "launch"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    files = small_reach(tmp_path_factory.mktemp("data"))
    settings = ["--config=tiny", f"--config.data.path={files / 'reach.h5'}"]
    config = worker.base(loading.load(settings))
    space = spaces.check({"dropout": ("uniform", 0.1, 0.5)}, config)
    return Plan(tmp_path_factory.mktemp("search"), config, space, trials=7, size=2)


class FakePool:
    """Two workers, whose jobs end in the order of their start; ``fates`` says how."""

    def __init__(self, *fates: str | None) -> None:
        self.fates, self.busy = list(fates), []  # type: ignore[var-annotated]

    def free(self) -> int:
        return 2 - len(self.busy)

    def start(self, run: Path, plan: Plan) -> None:
        assert self.free()
        self.busy.append(run)

    def ended(self, _: float) -> list[tuple[Path, str | None]]:
        run, fate = self.busy.pop(0), self.fates.pop(0) if self.fates else None
        if fate is None:
            values = worker.read_population(run)[1].members["dropout"]
            (run / "metrics.jsonl").write_text(f'{{"epoch": 1, "best_cobps": {list(values)}}}\n')
        return [(run, fate)]


def _work(plan: Plan, folder: Path, *fates: str | None) -> tuple[list[str], Counter[str]]:
    folder.mkdir(exist_ok=True)
    here = Plan(folder, plan.config, plan.space, plan.trials, plan.size)
    data, said = recording.read(plan.config), []  # type: ignore[var-annotated]
    try:
        executor.work(Search(here, data), FakePool(*fates), said.append)
    finally:
        assert not list((folder / "claims").rglob("lock"))
    return said, Counter(t.state for t in Study(folder).trials())


def test_a_dead_workers_population_is_given_to_another(plan: Plan, tmp_path: Path) -> None:
    said, states = _work(plan, tmp_path, None, executor.LOST, executor.LOST)
    assert states == {"complete": 7}
    assert sum("another resumes it" in line for line in said) == 2
    numbers = [n for run in (tmp_path / "trials").iterdir() for n in worker.read_population(run)[0]]
    assert sorted(numbers) == list(range(7))


def test_a_population_that_kills_its_workers_is_given_up(plan: Plan, tmp_path: Path) -> None:
    # Two workers take turns: the first population's fates are those of even number.
    fates = [executor.LOST, None] * executor.MOST_DEATHS
    said, states = _work(plan, tmp_path, *fates)
    assert states == {"complete": 7, "lost": 2}
    assert any("is given up" in line for line in said)


@pytest.mark.parametrize(
    ("fate", "sentence", "state"),
    [("the disk is full", "the disk is full", "running"), (executor.MEMORY, "smaller", "lost")],
)
def test_a_mistake_ends_the_search_and_leaves_it_to_others(
    plan: Plan, tmp_path: Path, fate: str, sentence: str, state: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        _work(plan, tmp_path, fate)
    assert state in {t.state for t in Study(tmp_path).trials()}
    assert _work(plan, tmp_path)[1]["complete"] == 7


def test_a_cluster_without_workers_is_waited_for_and_says_so(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its nodes are gone; they come back."""

    class Late(FakePool):
        def __init__(self) -> None:
            super().__init__()
            self.away = 5

        def free(self) -> int:
            self.away -= 1
            return 0 if self.away > 0 else super().free()

    monkeypatch.setattr(worker, "POLL_S", 0.01)
    here, said = Plan(tmp_path, plan.config, plan.space, 3, 2), list[str]()
    executor.work(Search(here, recording.read(plan.config)), Late(), said.append)
    assert said[0] == "waiting for the cluster to start a worker"
    assert said.count(said[0]) == 1
    assert [t.state for t in Study(tmp_path).trials()] == ["complete"] * 3


def test_how_a_worker_says_that_it_failed(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(error: BaseException) -> Any:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(worker, "train_run", fail)
        return executor.train(tmp_path, plan)

    assert failing(UserError("the disk is full")) == "the disk is full"
    assert failing(RuntimeError("RESOURCE_EXHAUSTED: 5 GiB")) == executor.MEMORY
    with pytest.raises(RuntimeError, match="a bug"):
        failing(RuntimeError("a bug"))


def test_the_cluster_file_is_one() -> None:
    """The keys that ray up asks for, and commands that begin Ray on every machine."""
    found = yaml.safe_load((LAUNCH / "ray_cluster.yaml").read_text())
    assert {"cluster_name", "provider", "auth"} <= set(found)
    assert found["max_workers"] == len(found["provider"]["worker_ips"])
    assert any("--head" in line for line in found["head_start_ray_commands"])
    assert any("--address=" in line for line in found["worker_start_ray_commands"])


def test_the_slurm_script_is_one(tmp_path: Path) -> None:
    """Bash reads it, and with commands that only say their names it starts Ray, then the search."""
    script = LAUNCH / "slurm_ray.sbatch"
    bash = shutil.which("bash")
    assert bash is not None
    subprocess.run([bash, "-n", str(script)], check=True)
    for name, body in {
        "srun": 'echo "srun $*" >> "$LOG"',
        "scontrol": "echo node1; echo node2",
        "sleep": "true",
    }.items():
        (tmp_path / name).write_text(f"#!{bash}\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "LOG": str(tmp_path / "log"),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
    }
    subprocess.run([bash, str(script), "--trials=9"], env=environment, check=True)
    # What the script leaves running writes when it comes to it.
    for _ in range(200):
        said = (tmp_path / "log").read_text()
        if said.count("\n") == 3:
            break
        time.sleep(0.05)
    assert "ray start --head --port=6379" in said
    assert "--exclude=node1 --overlap ray start --address=node1:6379" in said
    assert "stndt search --executor=ray --ray-address=node1:6379 --trials=9" in said
