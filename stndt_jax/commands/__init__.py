"""The commands of the command line, by what they are for; flags to calls, no logic."""
