"""Objectives, settings, test-time training, overfitting one picture."""
