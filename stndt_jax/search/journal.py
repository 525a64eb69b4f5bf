"""The journal of a study: a file with one JSON record per line, each a change of the study.

The format is Optuna's. Lines written here have a checksum (``crc``) too, and a line that creates a
trial has its ``trial_id``, because Optuna numbers trials by the order of the lines that create
them: one lost line would give all later records to the wrong trials.

* A record is appended under a lock of the kernel, in one write, and flushed to the disk. What
  cannot be written whole is removed again.
* The journal is checked when it is opened and before every append. Records that can be read are
  kept, wherever in a line they are. Everything else goes to ``study.journal.damaged-N``.
* Trials and hyperparameters whose records are lost are restored from the ``population.json`` of
  their run. Such trials are running again, and get their scores from the run like all others.
"""

from __future__ import annotations

import json
import os
import uuid
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import TrialState

from stndt_jax import files
from stndt_jax.console.lines import counted
from stndt_jax.errors import UserError
from stndt_jax.runs import records as json_files
from stndt_jax.runs.lock import turn
from stndt_jax.search.space import Choice, Dimension, Params

Record = dict[str, Any]

# Optuna's operations, and the keys that each must have.
CREATE_STUDY, STUDY_ATTRIBUTE, CREATE_TRIAL, PARAM, END = 0, 2, 4, 5, 6
_Kinds = dict[str, type | tuple[type, ...]]
_TRIAL: _Kinds = {"trial_id": int}
_STUDY: _Kinds = {"study_id": int}
_KEYS: dict[int, _Kinds] = {
    CREATE_STUDY: {"study_name": str, "directions": list},
    1: _STUDY,
    STUDY_ATTRIBUTE: _STUDY | {"user_attr": dict},
    3: _STUDY | {"system_attr": dict},
    CREATE_TRIAL: _STUDY | {"datetime_start": (str, type(None))},
    PARAM: _TRIAL | {"param_name": str, "param_value_internal": (int, float), "distribution": str},
    END: _TRIAL | {"state": int, "values": (list, type(None))},
    7: _TRIAL | {"step": int, "intermediate_value": (int, float)},
    8: _TRIAL | {"user_attr": dict},
    9: _TRIAL | {"system_attr": dict},
    10: {},
}
_BEGIN = '{"op_code":'
_MOST_TRIALS = 100_000
# User attributes of trials, see stndt_jax.search.study.
DIRECTORY, RUN, MEMBER, LOST = "place", "run", "member", "lost"


class OnDisk(NamedTuple):
    """A trial as the run directory that trains it describes it."""

    number: int
    run: str
    member: int
    params: Params


class _DamagedError(Exception):
    """The journal is not what was read before, followed by whole records."""


class Journal(BaseJournalBackend):
    """Optuna's backend, for the journal of one search directory."""

    def __init__(self, path: Path, name: str, space: Mapping[str, Dimension] | None = None) -> None:
        """Opens the journal, repairs it if it is damaged.

        Args:
          path: of the journal, in the search directory; it need not exist.
          name: of the study, if the journal does not tell.
          space: ranges of hyperparameters, if the journal does not tell.

        Raises:
          UserError: it cannot be read, written or restored.
        """
        self.path, self._name, self._space = path, name, space or {}
        self._seen, self._records = b"", list[Record]()
        self._stamp: object = None
        self._tail = b""
        with self._turn():
            self._repair()

    def read_logs(self, log_number_from: int) -> list[Record]:
        """The records from a number on.

        Raises:
          UserError: the journal was repaired since the first records were read.
        """
        if self.changed():
            raise self._restart()
        return self._records[log_number_from:]

    def append_logs(self, logs: list[Record]) -> None:
        """Appends records, to a journal that is whole.

        Raises:
          UserError: they cannot be written; or the journal was damaged, and is repaired now.
        """
        with self._turn():
            if not self._whole():
                raise self._restart()
            created = sum(record["op_code"] == CREATE_TRIAL for record in self._records)
            lines = []
            for record in logs:
                if record["op_code"] == CREATE_TRIAL:
                    record = record | {"trial_id": created}
                    created += 1
                lines.append(_line(_signed(record)))
            files.append_line(self.path, "\n".join(lines), flush=True)

    def changed(self) -> bool:
        """Whether records read before have changed, so that all must be read again.

        That is so after another process has damaged, removed or repaired the journal. New records
        of other workers are read; if they are damaged, the journal is repaired.
        """
        try:
            self._read_on()
            return False
        except _DamagedError:
            # It may have been read while it was written.
            with self._turn():
                return not self._whole()

    def _turn(self) -> AbstractContextManager[None]:
        return turn(self.path.with_name(f"{self.path.name}.turn"))

    def _restart(self) -> UserError:
        return UserError(
            f"{self.path} was damaged while this command used it, and has been repaired; start "
            f"the same command again to continue"
        )

    def _whole(self) -> bool:
        """Makes the journal whole; false if records read before have changed. Under the lock."""
        before = self._seen
        try:
            self._read_on()
            if not self._tail:
                return True
        except _DamagedError:
            pass
        self._repair()
        return self._seen.startswith(before)

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be read ({error.strerror}); it must be a file that this "
                f"user may read and write"
            ) from error

    def _read_on(self) -> None:
        """Reads the whole lines that were appended since.

        Raises:
          _DamagedError: there is something else.
        """
        try:
            found = os.stat(self.path)
        except OSError:
            raise _DamagedError from None
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        if stamp == self._stamp:
            return
        content = self._content()
        if not content.startswith(self._seen):
            raise _DamagedError
        *lines, tail = content[len(self._seen) :].split(b"\n")
        new = [_record(line) for line in lines]
        good = [record for record in new if record is not None]
        if len(good) < len(new):
            raise _DamagedError
        count = sum(record["op_code"] == CREATE_TRIAL for record in self._records)
        made = [record for record in good if record["op_code"] == CREATE_TRIAL]
        if any(record.get("trial_id", n) != n for n, record in enumerate(made, count)):
            raise _DamagedError
        self._records += good
        self._seen, self._tail = content[: len(content) - len(tail)], tail
        self._stamp = stamp

    def _repair(self) -> None:
        """Reads the journal from its first line on, and replaces it unless it is whole.

        Raises:
          UserError: it can be neither read nor restored.
        """
        content = self._content()
        found, bad = _salvaged(content)
        trials = on_disk(self.path.parent / "trials")
        if not found and not trials and any(self.path.parent.glob("trials/*/config.json")):
            raise UserError(
                f"{self.path} holds no record, and no population.json below "
                f"{self.path.parent / 'trials'} can be read, so the trials that were trained are "
                f"not known; restore them from a backup, or choose another directory"
            )
        fixed = _Restored(found, trials, self._distribution)
        records = fixed.records(self._name, _directory(self.path.parent, found))
        bad += [_line(record).encode() for record in fixed.wrong]
        whole = b"".join(f"{_line(record)}\n".encode() for record in records)
        # Only the end of the last line may be missing.
        if whole not in (content, content + b"\n"):
            aside = self._set_aside(bad)
            files.write_bytes(self.path, whole)
            what = "is missing or empty" if not content.strip() else "was damaged"
            warnings.warn(
                f"{self.path} {what}: {', '.join([*aside, *fixed.notes]) or 'repaired'}; the "
                f"search continues with all that can be read",
                stacklevel=2,
            )
        elif whole != content or not self.path.exists():
            files.write_bytes(self.path, whole)
        self._seen, self._records, self._stamp, self._tail = b"", [], None, b""
        self._read_on()

    def _set_aside(self, bad: Sequence[bytes]) -> list[str]:
        """Writes what is removed from the journal to a file beside it; says so."""
        if not bad:
            return []
        number = 1
        while (path := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        files.write_bytes(path, b"".join(line + b"\n" for line in bad))
        return [f"{counted(len(bad), 'unusable part')} moved to {path.name}"]

    def _distribution(self, name: str) -> BaseDistribution:
        """The distribution of a hyperparameter of which the journal has no record.

        Raises:
          UserError: it is not in the search space.
        """
        one = self._space.get(name)
        if one is None:
            raise UserError(
                f"{self.path} is damaged, and the range of {name} is not known; start stndt "
                f"search with the settings of this search to restore its trials"
            )
        if isinstance(one, Choice):
            return CategoricalDistribution(one.values)
        if one.whole:
            return IntDistribution(int(one.low), int(one.high), log=one.log)
        return FloatDistribution(one.low, one.high, log=one.log)


class _Restored:
    """The records of a damaged journal, completed by what the run directories hold."""

    def __init__(
        self,
        found: Sequence[Record],
        trials: Sequence[OnDisk],
        distribution: Callable[[str], BaseDistribution],
    ) -> None:
        """Changes nothing yet.

        Args:
          found: the records of the journal.
          trials: those of the run directories.
          distribution: gives that of a hyperparameter that no record has.

        Raises:
          UserError: two run directories have the same trial.
        """
        self.notes: list[str] = []
        self.wrong: list[Record] = []
        names = list(dict.fromkeys(r["study_name"] for r in found if r["op_code"] == CREATE_STUDY))
        # Run directories know numbers of trials, not of studies.
        self._names, self._trials = names, _by_number(trials if len(names) < 2 else [])
        self._numbers = {(one.run, one.member): n for n, one in self._trials.items()}
        self._found, self._distribution = list(found), distribution
        self._known = {r["param_name"]: r["distribution"] for r in found if r["op_code"] == PARAM}

    def records(self, name: str, directory: str) -> list[Record]:
        """The records of the whole journal; those found, in their order, if nothing is lost.

        Raises:
          UserError: there are several studies, and one of them or a trial is lost.
        """
        studies = max((r["study_id"] + 1 for r in self._found if "study_id" in r), default=0)
        created = self._created()
        order = list(created)
        used = [r["trial_id"] + 1 for r in self._found if "trial_id" in r]
        count = max([0, *used, *(n + 1 for n in (*created, *self._trials))])
        lost = [n for n in range(count) if n not in created]
        if max(studies, len(self._names)) > 1 and (lost or studies > len(self._names)):
            raise UserError(
                f"the journal of the study {' and '.join(self._names) or name} is damaged, and "
                f"there were several studies in it; restore study.journal from a backup, or choose "
                f"another directory"
            )
        self._check_params(created)
        for number in lost:
            created[number] = self._new(number, directory)
        self._say([n for n in lost if n in self._trials], "trial", "restored from trials/")
        self._say([n for n in lost if n not in self._trials], "trial", "given up")
        # Optuna ignores a hyperparameter of a trial that has ended.
        params = [r for r in self._found if r["op_code"] == PARAM]
        rest = [r for r in self._found if r["op_code"] not in (CREATE_STUDY, CREATE_TRIAL, PARAM)]
        study = [r for r in self._found if r["op_code"] == CREATE_STUDY]
        if not study and (created or params or rest):
            directions = {"study_name": name, "directions": [2]}
            study = [_signed({"op_code": CREATE_STUDY, "worker_id": "restored", **directions})]
            self.notes.append("the record of the study restored")
        if not self.notes and not self.wrong and order == list(range(count)) and self._ordered():
            return self._found
        return [*study, *(created[n] for n in sorted(created)), *params, *rest]

    def _ordered(self) -> bool:
        """Whether each record comes after those that it needs, and before those that end it."""
        studies = trials = 0
        ended: set[int] = set()
        for record in self._found:
            kind, trial = record["op_code"], record.get("trial_id", -1)
            studies += kind == CREATE_STUDY
            trials += kind == CREATE_TRIAL
            if not studies or trial >= trials or (kind == PARAM and trial in ended):
                return False
            if kind == END:
                ended.add(trial)
        return True

    def _say(self, numbers: Sequence[int], noun: str, what: str) -> None:
        if numbers:
            self.notes.append(f"{counted(len(numbers), noun)} {what}")

    def _created(self) -> dict[int, Record]:
        """The records that create trials, by number of the trial, in their order."""
        created: dict[int, Record] = {}
        following = 0
        for record in [r for r in self._found if r["op_code"] == CREATE_TRIAL]:
            about = record.get("user_attrs", {})
            number = self._numbers.get((about.get(RUN), about.get(MEMBER)))
            if number is None:
                number = record.get("trial_id", following)
                while number in self._trials and "trial_id" not in record:
                    number += 1
            if number in created or (number in self._trials and not self._is(number, about)):
                self.wrong.append(record)
                continue
            if record.get("trial_id", number) != number:
                record = _signed(record | {"trial_id": number})
                self.notes.append(f"trial {number} numbered as its run says")
            created[number] = record
            following = number + 1
        self._found = [r for r in self._found if r not in self.wrong] if self.wrong else self._found
        return created

    def _is(self, number: int, about: Mapping[str, Any]) -> bool:
        one = self._trials[number]
        return (about.get(RUN), about.get(MEMBER)) == (one.run, one.member)

    def _check_params(self, created: dict[int, Record]) -> None:
        """Corrects the hyperparameters of trials with those that their runs train with."""
        have: dict[int, Params] = {}
        for number, record in created.items():
            kinds = record.get("distributions") or {}
            have[number] = {
                key: json_to_distribution(kinds[key]).to_external_repr(value)
                for key, value in (record.get("params") or {}).items()
            }
        wrong = []
        for record in [r for r in self._found if r["op_code"] == PARAM]:
            number = record["trial_id"]
            if number not in self._trials:
                continue
            key, value = record["param_name"], record["param_value_internal"]
            value = json_to_distribution(record["distribution"]).to_external_repr(value)
            if value == self._trials[number].params.get(key, value):
                have.setdefault(number, {})[key] = value
            else:
                wrong.append(record)
        self.wrong += wrong
        self._found = [r for r in self._found if r not in wrong] if wrong else self._found
        fixed = []
        for number in created.keys() & self._trials.keys():
            params = self._trials[number].params
            lost = {k: v for k, v in params.items() if have[number].get(k, _MISSING) != v}
            if lost:
                created[number] = self._with(created[number], lost)
                fixed.append(number)
        self._say(fixed, "trial", "given the hyperparameters of its run")

    def _with(self, record: Record, params: Params) -> Record:
        """A record that creates a trial, with hyperparameters."""
        kinds = {
            key: json_to_distribution(self._known[key])
            if key in self._known
            else self._distribution(key)
            for key in params
        }
        values = {key: kinds[key].to_internal_repr(value) for key, value in params.items()}
        texts = {key: distribution_to_json(kind) for key, kind in kinds.items()}
        return _signed(
            record
            | {"params": (record.get("params") or {}) | values}
            | {"distributions": (record.get("distributions") or {}) | texts}
        )

    def _new(self, number: int, directory: str) -> Record:
        """A record that creates a trial in place of a lost one."""
        record: Record = {
            **{"op_code": CREATE_TRIAL, "worker_id": "restored", "study_id": 0},
            **{"datetime_start": datetime.now().astimezone().isoformat(), "trial_id": number},
        }
        if (one := self._trials.get(number)) is None:
            about: dict[str, Any] = {LOST: "its records in the journal were damaged"}
            return _signed(record | {"state": TrialState.FAIL.value, "user_attrs": about})
        about = {DIRECTORY: directory, RUN: one.run, MEMBER: one.member}
        return self._with(record | {"state": 0, "user_attrs": about}, one.params)


_MISSING = object()


def on_disk(trials: Path) -> list[OnDisk]:
    """The trials of the run directories below a directory."""
    found: list[OnDisk] = []
    for path in sorted(trials.glob("*/population.json")):
        try:
            for member, one in enumerate(json_files.read(path)["trials"]):
                params = dict(one["params"])
                found.append(OnDisk(int(one["number"]), path.parent.name, member, params))
        except (UserError, KeyError, TypeError, ValueError):
            # The worker that claims this run says so.
            continue
    return found


def _by_number(trials: Sequence[OnDisk]) -> dict[int, OnDisk]:
    found: dict[int, OnDisk] = {}
    for one in trials:
        other = found.setdefault(one.number, one)
        if other is not one:
            raise UserError(
                f"trials/{other.run} and trials/{one.run} of the search both have trial "
                f"{one.number}, because an earlier version went on with a damaged journal; move "
                f"trials/{one.run} away: other trials will be trained instead"
            )
    return found


def _directory(folder: Path, found: Sequence[Record]) -> str:
    """The identifier of the search directory."""
    known = (r.get("user_attrs", {}).get(DIRECTORY) for r in found if r["op_code"] == CREATE_TRIAL)
    if path := next((name for name in known if name), ""):
        return str(path)
    file = folder / "place"
    return (file.read_text().strip() if file.exists() else "") or uuid.uuid4().hex[:12]


def _line(record: Record) -> str:
    return json.dumps(record, separators=(",", ":"))


def _signed(record: Record) -> Record:
    """A record with its checksum."""
    plain = {key: value for key, value in record.items() if key != "crc"}
    return plain | {"crc": zlib.crc32(_line(plain).encode())}


def _record(line: bytes) -> Record | None:
    """The record of a line; None unless the line is one record."""
    try:
        value = json.loads(line) if line.isascii() else None
    except (ValueError, RecursionError):
        return None
    return value if _is_record(value) else None


def _is_record(value: Any) -> bool:
    """Whether Optuna can apply a record."""
    keys = _KEYS.get(value.get("op_code", -1)) if isinstance(value, dict) else None
    if keys is None or not isinstance(value.get("worker_id"), str):
        return False
    if not all(isinstance(value.get(key, _MISSING), kind) for key, kind in keys.items()):
        return False
    ids = [value[key] for key in ("trial_id", "study_id") if key in value]
    if not all(type(number) is int and 0 <= number < _MOST_TRIALS for number in ids):
        return False
    if any(len(value[key]) != 1 for key in ("user_attr", "system_attr") if key in value):
        return False
    if "crc" in value:
        return bool(value == _signed(value))
    try:
        for key in ("datetime_start", "datetime_complete"):
            if value.get(key) is not None:
                datetime.fromisoformat(value[key])
        TrialState(value.get("state", 0))
        if value["op_code"] == PARAM:
            kind = json_to_distribution(value["distribution"])
            kind.to_external_repr(value["param_value_internal"])
        for name, text in (value.get("distributions") or {}).items():
            json_to_distribution(text).to_external_repr(value["params"][name])
        dict(value.get("user_attrs", {}))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False
    return True


def _salvaged(content: bytes) -> tuple[list[Record], list[bytes]]:
    """The records of a journal, and the parts that are none, or create a trial once more."""
    found, bad = list[Record](), list[bytes]()
    # All other records may be repeated without effect.
    created: set[bytes] = set()
    *lines, tail = content.split(b"\n")
    for line in [*lines, tail] if tail else lines:
        for part in [line] if _record(line) else _parts(line):
            record = _record(part)
            if record is None or (record["op_code"] == CREATE_TRIAL and part in created):
                bad.append(part)
                continue
            found.append(record)
            if record["op_code"] == CREATE_TRIAL:
                created.add(part)
    return found, bad


def _parts(line: bytes) -> Iterator[bytes]:
    """Cuts a damaged line before and after every record in it."""
    # One character for each byte.
    text, left, at = line.decode("latin-1"), 0, 0
    decoder = json.JSONDecoder()
    while (at := text.find(_BEGIN, at)) >= 0:
        try:
            end = decoder.raw_decode(text, at)[1]
        except (ValueError, RecursionError):
            at += 1
            continue
        if at > left:
            yield line[left:at]
        yield line[at:end]
        left = at = end
    if left < len(line) or not line:
        yield line[left:]
