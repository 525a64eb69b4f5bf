"""The exceptions that are no bugs: a user's mistake, a run that went wrong, an interruption."""


class UserError(Exception):
    """Something the user can mend: one sentence naming what, where and what to do.

    The command line prints the sentence without a traceback and exits with 2. Anything
    else that is raised is a bug and keeps its traceback.
    """

    exit_code = 2


class Diverged(UserError):  # noqa: N818
    """No member of a population can be trained further; exit code 3."""

    exit_code = 3


class Interrupted(Exception):  # noqa: N818
    """A signal asked the run to stop, and it did, saved; exit code 128 + the signal's number."""

    def __init__(self, signal: int, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + signal
