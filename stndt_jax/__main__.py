"""``python -m stndt_jax`` is ``stndt``."""

from stndt_jax.cli.main import entry

if __name__ == "__main__":
    entry()
