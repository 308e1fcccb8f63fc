"""Masked autoencoders with a class head, and their adaptation to one test picture."""
