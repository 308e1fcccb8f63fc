"""Methods side by side on the same pictures, paired."""
