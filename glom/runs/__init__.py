"""A run: its folder, its records, files that are whole or absent, seeds, and paired statistics."""
