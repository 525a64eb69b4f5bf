"""Lifts of a pure step to many steps, members, devices and hosts."""
