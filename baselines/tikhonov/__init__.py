"""Tikhonov's regularised least squares, in closed form."""
