"""The network: attention, layers, the whole, and the operations they are written in."""
