"""To and from other programs: PyTorch checkpoints, StableHLO."""
