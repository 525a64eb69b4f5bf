"""From a trained run to rates and scores, and what scores are compared with."""
