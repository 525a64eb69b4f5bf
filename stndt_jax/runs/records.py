"""The JSON files of run, ensemble and search directories: their format, and older formats.

Every such file has a number under ``format``.

1  (or no number) Keys were words with spaces, such as ``"best member"`` and ``"co-bps"``; a few
   files had no keys of their own at the top.
2  Keys are snake_case.

``config.json`` has no number: a key that is missing in it was added later, and its value is the one
that the earlier version used (``config.schema.with_later``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stndt_jax import files
from stndt_jax.errors import UserError

FORMAT = 2

# Keys of format 1 that have another name in format 2.
_RENAMED = {
    "2.5%": "percentile_2_5",
    "97.5%": "percentile_97_5",
    "and attention": "and_attention",
    "and attention, rate taken out": "and_attention_given_rate",
    "and rate": "and_rate",
    "best member": "best_member",
    "bootstrap interval": "bootstrap_interval",
    "co-bps": "co_bps",
    "co-bps / oracle": "co_bps_of_oracle",
    "co-bps interval": "co_bps_interval",
    "data set": "data_set",
    "few-shot": "few_shot",
    "fp-bps": "fp_bps",
    "fp-bps interval": "fp_bps_interval",
    "halves of the trials": "trial_halves",
    "importance and rate": "importance_and_rate",
    "layers of a member": "member_layers",
    "least important first": "least_first",
    "left out": "left_out",
    "members, rate taken out": "members_given_rate",
    "most important first": "most_first",
    "most important first, by gradients": "most_first_by_gradients",
    "most, times even": "largest_over_even",
    "oracle co-bps": "oracle_co_bps",
    "psth R2": "psth_r2",
    "rate R2": "rate_r2",
    "sittings": "sessions",
    "source member": "source_member",
    "stated co-bps": "stated_co_bps",
    "t interval": "t_interval",
    "test phase": "test_phase",
    "top share": "top_share",
    "tp corr": "tp_corr",
    "train trials": "train_trials",
    "validation co-bps": "validation_co_bps",
    "validation trials": "validation_trials",
    "vel R2": "vel_r2",
    "without a score": "without_score",
}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file atomically, with its format number first.

    Raises:
      UserError: the file cannot be written.
    """
    files.write_json(path, {"format": FORMAT, **content})


def read(path: Path, restore: str = files.RESTORE, *, under: str = "") -> dict[str, Any]:
    """Reads a JSON file of this format or an older one.

    Args:
      path: the file.
      restore: how to proceed if it is damaged, as the end of the message.
      under: the key of format 2 under which all that the file held in format 1 is now found, for
        a file that had no keys of its own.

    Returns:
      Its content in the newest format, without the format number.

    Raises:
      UserError: it is missing, damaged, or of a newer format.
    """
    content = files.read_json(path, restore)
    if under and not (isinstance(content, dict) and type(content.get("format")) is int):
        content = {under: content}
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object; {restore}")
    number = content.pop("format", 1)
    if type(number) is not int or number > FORMAT:
        raise UserError(
            f"{path} has the format {number!r}, but this version of stndt_jax reads formats up to "
            f"{FORMAT}; install a newer version"
        )
    try:
        return content if number == FORMAT else upgraded(content)
    except RecursionError:
        raise UserError(f"{path} is damaged: it is nested too deeply; {restore}") from None


def upgraded(content: Any) -> Any:
    """The content of a file of format 1 with the keys of format 2, at any depth."""
    if isinstance(content, dict):
        return {_RENAMED.get(name, name): upgraded(inner) for name, inner in content.items()}
    if isinstance(content, list):
        return [upgraded(inner) for inner in content]
    return content
