"""What was run and on what: the parts of a report that tell of settings, sessions and data."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np

from stndt_jax.config import loading
from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.data import summary
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.report import tables
from stndt_jax.report.markup import Child, Html, join, tag
from stndt_jax.run import Run
from stndt_jax.runs import directory

# Where the files lie: told elsewhere, and another one for everybody.
_PATHS = ("data.path", "data.targets")


def kind(config: Config) -> str:
    """The model's name."""
    return "STNDT" if config.model.spatial else "NDT"


def shipped(run: Run) -> tuple[str, Config]:
    """The shipped configuration that a run began from, as its command tells, else the default."""
    words = [word for session in run.record.get("sessions", []) for word in _command(session)]
    _, settings = loading.split(words)
    names = [settings[0].removeprefix("--config=")] if settings[:1] and "=" in settings[0] else []
    names += [run.config.data.name] if "demo" in words[1:2] else []
    for name in [*names, "default"]:
        if name.partition(":")[0] not in loading.shipped():
            continue
        try:
            return name, loading.load([f"--config={name}"])
        except UserError:
            continue
    raise UserError("the shipped configuration default is missing; install stndt_jax again")


def differences(run: Run) -> tuple[str, list[tuple[str, str, str]]]:
    """The shipped configuration's name, and key, its value and the run's where they differ."""
    name, base = shipped(run)
    found = []
    for line in directory.differences(base, run.config):
        key, _, values = line.partition(": ")
        old, _, new = values.partition(" -> ")
        if key not in _PATHS:
            found.append((key, old, new))
    return name, found


def settings(run: Run) -> list[Child]:
    """Settings that differ from the shipped ones, then all of them, folded away."""
    name, changed = differences(run)
    means = {key: meaning for key, _, meaning in configs.documentation()}
    parts: list[Child] = [tag("h3", "Settings")]
    if changed:
        rows: list[list[Child | tables.Cell]] = [
            [tag("code", key), tag("code", old), tag("code", new), means.get(key, "")]
            for key, old, new in changed
        ]
        caption = f"What differs from the shipped configuration {name}"
        heads = ("Key", "Shipped", "This run", "Meaning")
        parts.append(tables.table(heads, rows, caption=caption, sortable=False))
    else:
        parts.append(tag("p", f"All as in the shipped configuration {name}."))
    every = [
        [tag("code", key), tag("code", value), means.get(key, "")]
        for key, value in _flat(configs.to_mapping(run.config))
    ]
    parts.append(
        _folded(
            f"All {len(every)} settings",
            tables.table(
                ("Key", "Value", "Meaning"), every, caption="All settings", sortable=False
            ),
        )
    )
    return parts


def sessions(run: Run) -> list[Child]:
    """When, how long, with what versions and by what command."""
    found = run.record.get("sessions", [])
    if not found:
        return [tag("p", "This run does not say who worked on it, or when.")]
    parts: list[Child] = [tag("h3", "When and with what")]
    rows: list[list[Child | tables.Cell]] = []
    for session in found:
        rows.append(
            [
                moment(session.get("began")),
                duration(session),
                str(session.get("how") or "did not tell its end"),
                ", ".join(map(str, _list(session.get("devices")))),
                tag("code", " ".join(_command(session))),
            ]
        )
    heads = ("Began (UTC)", "Took", "Ended", "Devices", "Command")
    parts.append(tables.table(heads, rows, caption="Every process that worked on this run"))
    last = found[-1]
    versions = last.get("versions") if isinstance(last.get("versions"), dict) else {}
    facts = [(str(name), str(version)) for name, version in (versions or {}).items()]
    facts += [("commit", tag("code", last["commit"]))] if last.get("commit") else []
    parts.append(_folded("Versions", _facts(facts)))
    return parts


def data(run: Run) -> list[Child]:
    """Sizes and rates of the recording."""
    found: SpikeData = run.data
    hz_N = summary.mean_rates_hz(found)
    ms = found.bin_ms
    facts: list[tuple[str, Child]] = [
        ("recording", found.name),
        ("trials", f"{len(found.train)} to train on, {len(found.eval)} to evaluate"),
        (
            "bins",
            f"{found.bins_observed} observed and {found.bins_forward} forward, of {ms:g} ms: "
            f"{found.bins_observed * ms:g} ms and {found.bins_forward * ms:g} ms",
        ),
        ("neurons", f"{found.heldin} held-in, which the model sees, and {found.heldout} held-out"),
        (
            "mean rates",
            f"{_middle(hz_N[: found.heldin])} spikes/s held-in, "
            f"{_middle(hz_N[found.heldin :])} held-out (median, lowest to highest)",
        ),
    ]
    silent = int(np.sum(hz_N == 0))
    if silent:
        facts.append(("silent", f"{silent} neurons never spike in the training trials"))
    for name, line in summary.facts(found):
        if name in ("recorded", "behaviour", "conditions"):
            facts.append((name, line))
    true = "known, for the spikes are simulated" if found.eval.rates is not None else "not known"
    facts.append(("true rates", true))
    if fingerprint := run.record.get("data_fingerprint"):
        facts.append(("fingerprint", tag("code", fingerprint)))
    changed = fingerprint is not None and fingerprint != found.fingerprint()
    warning = tag(
        "p",
        "The recording is not the one that this run was trained on: their fingerprints differ.",
        class_="warn",
    )
    return [warning if changed else None, _facts(facts)]


def moment(text: object) -> str:
    """A time of ``run.json``, to the minute; the text itself if it is none."""
    try:
        return datetime.datetime.fromisoformat(str(text)).strftime("%d %B %Y, %H:%M").lstrip("0")
    except ValueError:
        return str(text)


def duration(session: dict[str, Any]) -> str:
    """How long a process worked, in words; a dash where it did not tell its end."""
    seconds = _seconds(session)
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    words = [f"{hours} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0)
    return " ".join([*words, f"{rest} s"] if hours == 0 else words)


def _seconds(session: dict[str, Any]) -> float | None:
    try:
        began, ended = (
            datetime.datetime.fromisoformat(str(session.get(key))) for key in ("began", "ended")
        )
        return (ended - began).total_seconds()
    except (ValueError, TypeError):
        return None


def total(found: Sequence[dict[str, Any]]) -> str:
    """How long all processes worked together; empty where none told."""
    seconds = sum(s for session in found if (s := _seconds(session)) is not None)
    start = datetime.datetime(2000, 1, 1)
    end = start + datetime.timedelta(seconds=seconds)
    return duration({"began": start.isoformat(), "ended": end.isoformat()}) if seconds else ""


def _facts(rows: Sequence[tuple[str, Child]]) -> Html:
    return tag("dl", [(tag("dt", name), tag("dd", value)) for name, value in rows], class_="facts")


def _folded(title: str, *children: Child) -> Html:
    return tag("details", tag("summary", title), *children)


def _middle(hz: Any) -> str:
    if not len(hz):
        return "–"
    return f"{np.median(hz):.1f} ({np.min(hz):.1f} to {np.max(hz):.1f})"


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, str(value)))
    return found


def _command(session: Any) -> list[str]:
    words = session.get("command") if isinstance(session, dict) else None
    return [str(word) for word in _list(words)]


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def listed(names: Sequence[Child]) -> Html:
    """Words as they stand in a sentence."""
    if len(names) < 2:
        return join(names)
    return join([join(names[:-1], ", "), " and ", names[-1]])
