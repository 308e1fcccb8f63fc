"""Test-time training over data sets and single pictures, the teacher beside it."""
