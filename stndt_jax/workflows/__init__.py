"""Several commands in one: the demo, reproduction of published scores, seeds."""
