"""Spatiotemporal transformers for neural population activity, in JAX.

Nothing is imported here: ``import stndt_jax`` costs nothing, and a machine needs only what the
modules it uses need.
"""

__version__ = "0.1.0"
