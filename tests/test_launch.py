"""The launch scripts: shellcheck or bash reads them, and each is run with its launcher faked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from stndt_jax.parallel import multihost

LAUNCH = Path(__file__).resolve().parents[1] / "launch"
SCRIPTS = sorted(p for p in LAUNCH.iterdir() if p.suffix in (".sh", ".sbatch"))

# Stands for stndt: says how it was called, and, asked to stop, saves and exits as stndt does.
TRAINER = """#!/usr/bin/env bash
echo "stndt $*; hosts ${STNDT_HOSTS:-} process ${STNDT_PROCESS:-}" >>"$RECORD"
[[ "$*" == *long* ]] || exit 0
trap 'sleep 0.3; echo saved >>"$RECORD"; exit 143' TERM
echo ready >>"$RECORD"
while :; do sleep 0.05; done
"""
SRUN = """#!/usr/bin/env bash
echo "srun $*" >>"$RECORD"
[[ $1 == --kill-on-bad-exit=* ]] && shift
exec "$@"
"""
ECHO = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$RECORD"
"""


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the fakes, first on the path, write down."""
    tools = {"stndt": TRAINER, "srun": SRUN, "scontrol": ECHO, "gcloud": ECHO}
    for name, text in tools.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    for name, value in {"JOB_ID": "7", "ARRAY_JOB_ID": "9", "ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    return tmp_path / "record"


def run(script: str, *arguments: str) -> Any:
    command = ["bash", str(LAUNCH / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def told_to_stop(script: str, record: Path, *arguments: str, ready: int = 1) -> int:
    """The exit code of a script that was sent SIGTERM while training runs."""
    with subprocess.Popen(["bash", str(LAUNCH / script), *arguments]) as running:
        deadline = time.monotonic() + 30
        while not (record.exists() and record.read_text().count("ready") == ready):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        return running.wait(timeout=30)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_shell_reads_it(script: Path) -> None:
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    checker = [shutil.which("shellcheck", path=beside) or "bash"]
    checker += ["-n"] if checker[0] == "bash" else ["--severity=style"]
    done = subprocess.run([*checker, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert script.stat().st_mode & 0o100, f"chmod +x {script.name}"


def test_slurm(record: Path) -> None:
    assert run("slurm.sbatch", "--config=tiny", "--workdir=a b").returncode == 0
    said = record.read_text().splitlines()
    assert said[1] == "stndt train --config=tiny --workdir=a b; hosts  process "
    assert not any("requeue" in line for line in said)
    assert "#SBATCH --signal=B:TERM@120" in (LAUNCH / "slurm.sbatch").read_text()


def test_slurm_is_queued_again_once_the_run_is_saved(record: Path) -> None:
    assert told_to_stop("slurm.sbatch", record, "long") == 143
    assert record.read_text().splitlines()[-2:] == ["saved", "scontrol requeue 7"]


def test_slurm_array(record: Path) -> None:
    assert run("slurm_array.sbatch", "runs/a", "--config=tiny").returncode == 0
    wanted = "stndt train --config=tiny --config.seed=3 --workdir=runs/a/3; hosts one process "
    assert record.read_text().splitlines() == [wanted]


def test_slurm_array_is_queued_again_once_the_run_is_saved(record: Path) -> None:
    assert told_to_stop("slurm_array.sbatch", record, "runs/long") == 143
    assert record.read_text().splitlines()[-2:] == ["saved", "scontrol requeue 9_3"]


def test_a_failure_is_not_queued_again(record: Path) -> None:
    for script in ("slurm.sbatch", "slurm_array.sbatch"):
        (record.parent / "stndt").write_text("#!/usr/bin/env bash\nexit 2\n")
        assert run(script, "runs/a").returncode == 2
    assert "requeue" not in record.read_text()


def test_tpu(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "name of the TPU" in run("tpu_vm.sh").stderr
    monkeypatch.setenv("TPU", "slice")
    monkeypatch.setenv("ZONE", "z")
    assert run("tpu_vm.sh", "--config=tiny", "--workdir=a b").returncode == 0
    wanted = (
        "gcloud compute tpus tpu-vm ssh slice --zone=z --worker=all --command=cd stndt_jax && "
        "STNDT_HOSTS=auto .venv/bin/stndt train --config=tiny --workdir=a\\ b "
    )
    assert record.read_text().rstrip("\n") == wanted
    monkeypatch.setenv("DRY_RUN", "1")
    assert "--worker=all" in run("tpu_vm.sh").stdout.splitlines()
    assert record.read_text().count("gcloud") == 1


def test_kubernetes() -> None:
    service, job = yaml.safe_load_all((LAUNCH / "k8s_job.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {one["name"]: one.get("value", "1") for one in container["env"]}
    how = multihost.connection(variables)
    assert how is not None
    assert how["num_processes"] == job["spec"]["completions"] == job["spec"]["parallelism"]
    # The first pod's name in the headless service is where the others look for it.
    name, service_name = how["coordinator_address"].partition(":")[0].split(".")
    assert (name, service_name) == (f"{job['metadata']['name']}-0", service["metadata"]["name"])
    assert pod["subdomain"] == service_name and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert container["command"] == ["stndt", "train"]
    assert any(argument.startswith("--workdir=/data/") for argument in container["args"])


def test_local_processes(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("local_multiprocess.sh", "3", "stndt", "train").returncode == 0
    ends = sorted(line.rpartition(" ")[2] for line in record.read_text().splitlines())
    assert ends == ["0", "1", "2"]
    monkeypatch.setenv("DRY_RUN", "1")
    shown = run("local_multiprocess.sh", "2", "stndt", "train").stdout.splitlines()
    assert [line.partition(" STNDT_PROCESSES")[2] for line in shown] == [
        f"=2 STNDT_PROCESS={i} stndt train" for i in range(2)
    ]


def test_local_processes_are_all_told_to_stop(record: Path) -> None:
    code = told_to_stop("local_multiprocess.sh", record, "2", "stndt", "long", ready=2)
    assert code == 143
    assert record.read_text().count("saved") == 2
