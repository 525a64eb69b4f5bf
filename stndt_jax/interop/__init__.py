"""Exchange with other programs: PyTorch checkpoints, StableHLO."""
