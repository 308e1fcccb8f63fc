"""Recorded results, which `apm claims` judges; see README.md."""
