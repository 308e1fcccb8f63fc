"""Backbones whose layers can be read as feature grids; `glom.backbones.video` is the way in."""
