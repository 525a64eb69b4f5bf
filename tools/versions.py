"""Runs the tests on several interpreters, with the oldest and the newest permitted versions.

    python tools/versions.py --extras=dev,search --only=3.13 -- -n 2 tests/test_model.py

Every Python from 3.11 to 3.14 that is found (on PATH, by pyenv or by uv) gets two environments in
the checkout: ``.venv-3.13-oldest``, with the lower bound of every requirement in setup.py, and
``.venv-3.13-newest``. What the requirements need in turn is always the newest that fits. Everything
after ``--`` goes to pytest, whose output is kept in ``pytest.log`` in the environment. Prints a
table at the end; exits with 1 if a combination failed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
AGES = ("oldest", "newest")
SHOWN = ("jax", "flax", "orbax-checkpoint", "numpy")
# Without its dependencies; setup.py says why.
NLB_TOOLS = "nlb_tools==0.0.4"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?>=([0-9][A-Za-z0-9.]*)([^;]*)(;.*)?")


@dataclass
class Outcome:
    """What became of one combination.

    Attributes:
      python: version of the interpreter.
      age: oldest or newest.
      versions: of the packages in ``SHOWN``, in that order.
      result: the last line of pytest, or why there were no tests.
      passed: whether all tests passed.
      seconds: wall time of the tests.
    """

    python: str
    age: str
    versions: list[str] = field(default_factory=lambda: [""] * len(SHOWN))
    result: str = ""
    passed: bool = False
    seconds: float = 0.0


def requirements(setup_py: str) -> list[str]:
    """All requirements that the text of setup.py names, those of every extra included."""
    found: list[str] = []
    for node in ast.walk(ast.parse(setup_py)):
        match node:
            case ast.Assign(targets=[ast.Name(id="EXTRAS")], value=value):
                found += [each for extra in ast.literal_eval(value).values() for each in extra]
            case ast.keyword(arg="install_requires", value=value):
                found += ast.literal_eval(value)
    return list(dict.fromkeys(found))


def constraints(wanted: Sequence[str]) -> list[str]:
    """The lower bound of every requirement as a line of a constraints file for pip.

    Raises:
      ValueError: two lower bounds for the same package.
    """
    bounds: dict[str, str] = {}
    for text in wanted:
        match = _REQUIREMENT.fullmatch(text)
        if match is None:
            continue
        name, version, _, marker = match.groups()
        line = f"{version}{marker or ''}"
        if bounds.setdefault(name, line) != line:
            raise ValueError(f"{name} has two lower bounds: {bounds[name]} and {line}")
    return [f"{name}=={line}" for name, line in bounds.items()]


def interpreters() -> dict[str, str]:
    """The Pythons that are found: version -> executable, in ``PYTHONS``'s order."""
    found = {}
    for version in PYTHONS:
        paths = sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python"), reverse=True)
        candidates = [shutil.which(f"python{version}"), *map(str, paths)]
        if shutil.which("uv"):
            uv = ["uv", "python", "find", "--no-python-downloads", version]
            candidates.append(subprocess.run(uv, capture_output=True, text=True).stdout.strip())
        check = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"
        for python in filter(None, candidates):
            done = subprocess.run([python, "-c", check], capture_output=True, text=True)
            if done.stdout.strip() == version:
                found[version] = python
                break
    return found


def installed(environment: Path, python: str, age: str, extras: str) -> str:
    """Sets up an environment; an empty string, or why that failed."""
    setup_py = (ROOT / "setup.py").read_text(encoding="utf-8")
    lines = constraints(requirements(setup_py)) if age == "oldest" else []
    stamp = environment / ".installed"
    state = hashlib.sha256("\n".join([setup_py, extras, *lines]).encode()).hexdigest()
    # Whether there are newer versions must be asked each time.
    if age == "oldest" and stamp.exists() and stamp.read_text() == state:
        return ""
    stamp.unlink(missing_ok=True)
    if not (environment / "bin" / "pip").exists():
        subprocess.run([python, "-m", "venv", "--clear", environment], check=True)
    (environment / "constraints.txt").write_text("\n".join(lines) + "\n")
    pip = [f"{environment}/bin/python", "-m", "pip", "install", "-q", "--prefer-binary"]
    pip += ["--disable-pip-version-check", "-c", f"{environment}/constraints.txt"]
    pip += ["--upgrade", "--upgrade-strategy", "eager"] if age == "newest" else []
    for what in (["-e", f"{ROOT}[{extras}]"], ["--no-deps", NLB_TOOLS]):
        done = subprocess.run([*pip, *what], capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return (errors or done.stderr.splitlines() or ["pip failed"])[-1][:200]
    stamp.write_text(state)
    return ""


def versions(environment: Path) -> list[str]:
    """Versions of the packages in ``SHOWN``."""
    code = f"from importlib import metadata as m; print(*map(m.version, {SHOWN}))"
    command = [f"{environment}/bin/python", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def tried(version: str, python: str, age: str, extras: str, arguments: Sequence[str]) -> Outcome:
    """Sets up one combination and runs the tests on it."""
    outcome = Outcome(version, age)
    environment = ROOT / f".venv-{version}-{age}"
    outcome.result = installed(environment, python, age, extras)
    if outcome.result:
        return outcome
    outcome.versions = versions(environment)
    began = time.monotonic()
    command = [f"{environment}/bin/python", "-m", "pytest", "-q", *arguments]
    with (environment / "pytest.log").open("w") as log:
        code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT).returncode
    outcome.seconds = time.monotonic() - began
    said = (environment / "pytest.log").read_text(errors="replace").strip().splitlines()
    outcome.passed = code == 0
    outcome.result = said[-1].strip("= ") if said else f"pytest ended with {code}"
    return outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes, one a line."""
    rows = [["Python", "versions", *SHOWN, "", "tests", "seconds"]]
    for each in outcomes:
        verdict = "passed" if each.passed else "FAILED"
        row = [each.python, each.age, *each.versions, verdict, each.result, f"{each.seconds:.0f}"]
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Tries the combinations one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--extras", default="dev,search", help="extras to install")
    parser.add_argument("--only", default="", help="part of the names to try, as in 3.13-oldest")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    given = parser.parse_args(arguments)
    outcomes = []
    for version, python in interpreters().items():
        for age in AGES:
            if given.only in f"{version}-{age}":
                print(f"Python {version} ({python}), {age} versions", flush=True)
                outcomes.append(tried(version, python, age, given.extras, given.pytest))
                print(f"  {outcomes[-1].result}", flush=True)
    if not outcomes:
        print(f"No Python of {', '.join(PYTHONS)} was found, or none fits --only={given.only}.")
        return 1
    print(f"\n{table(outcomes)}")
    return int(not all(each.passed for each in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
