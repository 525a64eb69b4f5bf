"""The command line: flags to calls, no logic."""
