"""Text from elsewhere, made safe to print on one line."""

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
