"""Configurations: the schema every value is checked against, and how files are read."""
