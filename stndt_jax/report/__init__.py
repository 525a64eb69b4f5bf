"""A run directory as one HTML file that needs nothing else, and several runs side by side."""
