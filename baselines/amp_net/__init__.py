"""AMP-Net-BM (IEEE TIP 2021)."""
