"""Plug-and-play with a sliding cosine transform, through deepinv."""
