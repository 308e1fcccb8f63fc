"""Hinton's GLOM: trained, looked at level by level, its islands scored."""
