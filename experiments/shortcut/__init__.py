"""Layer skipping: from a model's first grid to its last."""
