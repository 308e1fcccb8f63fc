"""An APM trained on a teacher's feature grids."""
