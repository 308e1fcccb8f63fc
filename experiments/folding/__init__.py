"""What each part of folding buys: the ablation."""
