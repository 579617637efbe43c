"""Super-resolution and deblurring: which operators those baselines support."""

from lorun.physics.blur_downsample import BlurDownsample


def needs_blur(physics: object, channels: int) -> str | None:
    """The reason why a baseline for blurred images cannot be used with an operator, or None."""
    if isinstance(physics, BlurDownsample):
        return None
    return f"it undoes blur and decimation, and {type(physics).__name__} does neither"
