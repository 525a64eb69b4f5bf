"""Text for one line: from elsewhere made safe to print, durations, numbers of things."""

from __future__ import annotations

MOST = 10**6  # characters of a text that are considered at all


def one_line(text: str, longest: int = 0) -> str:
    r"""``text`` on one line, without control characters.

    White space becomes a space, any other character that cannot be printed its escape sequence
    (``\x1b``), so that no text steers the terminal.

    Args:
      text: any text, such as a file's name or an error's message.
      longest: characters to keep, the middle is left out; 0 keeps all.
    """
    line = "".join(
        c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text[:MOST]
    )
    if not longest or len(line) <= longest:
        return line
    half = longest // 2
    return f"{line[:half]} ... {line[-half:]}"


def duration(seconds: float) -> str:
    """A duration in words: ``8 s``, ``3 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h" + f" {minutes % 60} min" * (minutes % 60 > 0)


def counted(number: int, one: str, many: str = "") -> str:
    """A number and its noun: ``1 trial``, ``2 trials``.

    Args:
      number: how many.
      one: the noun for one of them.
      many: the noun for several; by default with an s.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"
