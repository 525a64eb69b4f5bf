"""Training: masks, losses, the step, populations, the loop."""
