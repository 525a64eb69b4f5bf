"""Plain text for a terminal or a log file: tables, messages on one line."""
