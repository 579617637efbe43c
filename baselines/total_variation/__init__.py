"""Total variation, through deepinv."""
