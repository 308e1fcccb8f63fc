"""Islands while a video transformer learns to classify, and nothing else."""
