"""``evaluate --rates`` and ``evaluate --shots``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stndt_jax.errors import UserError


def score_file(run: str, flag: Mapping[str, Any]) -> int:
    """``evaluate --rates``: scores a file, and sets it beside a run's scores where one is given."""
    if not flag["name"]:
        raise UserError("--name is missing; say what made the rates, for example --name=AutoLFADS")
    from stndt_jax.evaluation import external_rates, method_scores

    data, targets, _ = method_scores.recording(flag["data"], flag["targets"], run)
    if targets is None:
        raise UserError("no targets are known for these trials; give a file with --targets")
    rates = external_rates.read(Path(flag["rates"]), data)
    print(method_scores.compare(flag["name"], rates, targets, run))
    return 0


def few_shot(run: Path, flag: Mapping[str, Any]) -> None:
    """``evaluate --shots``: co-bps of held-out neurons read from latents after some trials."""
    wrong = [word for word in flag["shots"] if not word.strip().isdecimal()]
    if wrong:
        raise UserError(f"--shots {wrong[0]} is no number of trials; give some, say 16,32,64")
    from stndt_jax.evaluation import few_shot as fewshot
    from stndt_jax.runs import records
    from stndt_jax.training import restore

    trained = restore.best_run(restore.models(run, flag["data"], flag["targets"]))
    shots = [int(word) for word in flag["shots"]]
    found = fewshot.score(trained, shots, select=flag["select"])
    scores = records.read(run / "scores.json")
    records.write(run / "scores.json", {**scores, "few_shot": found})
    print("\nfew-shot co-smoothing of the best member, decoder fitted on k trials:")
    print(fewshot.table(found))
