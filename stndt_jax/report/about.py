"""Settings, sessions and data of a run: what was run, when, and on what."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from stndt_jax.config import loading, schema
from stndt_jax.config.schema import Config
from stndt_jax.data import summary
from stndt_jax.errors import UserError
from stndt_jax.report import tables
from stndt_jax.report.layout import details
from stndt_jax.report.markup import Child, Html, tag
from stndt_jax.run import Run
from stndt_jax.runs import recording

# Paths of files are shown elsewhere, and differ between users.
PATHS = ("data.path", "data.targets")


def kind(config: Config) -> str:
    """The model's name."""
    return "STNDT" if config.model.spatial else "NDT"


def factors(run: Run) -> str:
    """The number of factors of a run's models; empty of an ensemble, and where there are none."""
    width = 0 if run.is_ensemble else run.config.model.width
    return f"{width} factors" if width else ""


def shipped(run: Run) -> tuple[str, Config]:
    """The shipped configuration that a run started from: by its command, its data, or default."""
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
    """The shipped configuration's name, and keys, its values and the run's where they differ."""
    name, base = shipped(run)
    old, new = schema.flat(base), schema.flat(run.config)
    keys = [key for key in {**old, **new} if key not in PATHS and old.get(key) != new.get(key)]
    return name, [(key, str(old.get(key)), str(new.get(key))) for key in keys]


def settings(run: Run) -> list[Child]:
    """Settings that differ from the shipped ones, then all of them, folded away."""
    name, changed = differences(run)
    meanings = {key: meaning for key, _, meaning in schema.documentation()}
    parts: list[Child] = [tag("h3", "Settings")]
    if changed:
        rows: list[list[Child | tables.Cell]] = [
            [tag("code", key), tag("code", old), tag("code", new), meanings.get(key, "")]
            for key, old, new in changed
        ]
        caption = f"Settings that differ from the shipped configuration {name}"
        heads = ("Key", "Shipped", "This run", "Meaning")
        parts.append(tables.table(heads, rows, caption=caption, sortable=False, stacks=True))
    else:
        parts.append(tag("p", f"All settings are those of the shipped configuration {name}."))
    every = [
        [tag("code", key), tag("code", str(value)), meanings.get(key, "")]
        for key, value in schema.flat(run.config).items()
    ]
    columns = ("Key", "Value", "Meaning")
    table = tables.table(columns, every, caption="All settings", sortable=False, stacks=True)
    return [*parts, details(f"All {len(every)} settings", table)]


def sessions(run: Run) -> list[Child]:
    """When and for how long the run was trained, with which versions and by what command."""
    found = run.record.get("sessions", [])
    if not found:
        return [tag("p", "When and how this run was trained is not recorded.")]
    rows: list[list[Child | tables.Cell]] = [
        [
            moment(session.get("began")),
            duration(session),
            str(session.get("how") or "not recorded"),
            ", ".join(map(str, _list(session.get("devices")))),
            tag("code", " ".join(_command(session))),
        ]
        for session in found
    ]
    heads = ("Start (UTC)", "Duration", "End", "Devices", "Command")
    last = found[-1]
    versions = last.get("versions") if isinstance(last.get("versions"), dict) else {}
    facts: list[tuple[str, Child]] = [(str(name), str(x)) for name, x in (versions or {}).items()]
    facts += [("commit", tag("code", last["commit"]))] if last.get("commit") else []
    return [
        tag("h3", "Sessions"),
        tables.table(heads, rows, caption="Every process that trained this run", stacks=True),
        details("Versions", _facts(facts)),
    ]


def data(run: Run) -> list[Child]:
    """Sizes and rates of the recording, and whether it is the one that was trained on."""
    found = run.data
    facts: list[tuple[str, Child]] = []
    for name, line in summary.facts(found):
        if name:
            facts.append((name, line))
        else:
            facts[-1] = (facts[-1][0], f"{facts[-1][1]}; {line}")
    simulated = found.eval.rates is not None
    facts.append(("true rates", "known: the spikes are simulated" if simulated else "not known"))
    fingerprint = run.record.get("data_fingerprint")
    if fingerprint is None:
        return [_facts(facts)]
    facts.append(("fingerprint", tag("code", fingerprint)))
    if not other_data(run):
        return [_facts(facts)]
    text = "The recording is not the one that this run was trained on: their fingerprints differ."
    return [tag("p", text, class_="warn"), _facts(facts)]


def other_data(run: Run) -> str:
    """A sentence if the recording is not the one that the run was trained on; else empty."""
    return recording.difference(run.path, run.config, run.data, run.data_path, run.targets_path)


def moment(text: object) -> str:
    """A time of ``run.json``, to the minute; the text itself if it is not a time."""
    try:
        return datetime.datetime.fromisoformat(str(text)).strftime("%d %B %Y, %H:%M").lstrip("0")
    except ValueError:
        return str(text)


def duration(session: dict[str, Any]) -> str:
    """How long a session took, in words; a dash if its end was not recorded."""
    seconds = _seconds(session)
    return "–" if seconds is None else _in_words(seconds)


def total(found: Sequence[dict[str, Any]]) -> str:
    """How long all sessions took together; empty if none recorded its end."""
    seconds = sum(s for session in found if (s := _seconds(session)) is not None)
    return _in_words(seconds) if seconds else ""


def _in_words(seconds: float) -> str:
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


def _facts(rows: Sequence[tuple[str, Child]]) -> Html:
    return tag("dl", [(tag("dt", name), tag("dd", value)) for name, value in rows], class_="facts")


def _command(session: Any) -> list[str]:
    words = session.get("command") if isinstance(session, dict) else None
    return [str(word) for word in _list(words)]


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []
