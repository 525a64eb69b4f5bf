"""Ensembles: choosing members, averaging their rates, extracting and retraining them."""
