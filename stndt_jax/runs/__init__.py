"""Run directories on disk: files, checkpoints, locks, logs."""
