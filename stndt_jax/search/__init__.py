"""Searches for hyperparameters: space, study, workers, executors."""
