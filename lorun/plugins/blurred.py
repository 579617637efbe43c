"""What the baselines for super-resolution and deblurring have in common: whom they decline, what they know of noise."""

from lorun.physics.blur_downsample import BlurDownsample

_LEAST = 0.1
"""Standard deviation of a measurement's error where there is no noise, grey levels: of nothing, nothing can be
inverted."""


def needs_blur(physics: object) -> str | None:
    """The reason why a baseline that knows how images are blurred cannot be used with an operator, or None."""
    if isinstance(physics, BlurDownsample):
        return None
    return f"it undoes blur and decimation, and {type(physics).__name__} does neither"


def error_variance(physics: BlurDownsample) -> float:
    """Of a pixel of y, for values in [0, 1]: noise, and what whole grey levels hide, 1/12 of one squared."""
    truncation = 1 / 12 if physics.quantisation == "usrnet_uint8" else 0.0
    return max(physics.noise**2 + truncation, _LEAST**2) / 255**2
