"""Percepts as fields: folding, decoding, overfitting, interpolating and upsampling single pictures."""
