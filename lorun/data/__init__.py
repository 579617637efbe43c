"""Datasets: what they hold, how to check them, how to read their images."""
