"""Backbones whose layers can be read as feature grids; `glom.video` is the way in."""
