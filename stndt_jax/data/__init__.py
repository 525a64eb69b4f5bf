"""Spike data: what is read from files and what is simulated."""
