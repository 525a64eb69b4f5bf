"""Recordings: reading, checking, simulating, summarising and exporting them."""
