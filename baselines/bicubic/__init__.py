"""Bicubic interpolation (IEEE TASSP 1981)."""
