"""Runs and pictures on one page that is looked at."""
