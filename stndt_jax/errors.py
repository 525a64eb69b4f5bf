"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """Something the user can mend: one sentence naming what, where and what to do.

    The command line prints the sentence without a traceback and exits with 2. Anything
    else that is raised is a bug and keeps its traceback.
    """
