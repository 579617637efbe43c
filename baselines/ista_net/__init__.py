"""ISTA-Net (CVPR 2018)."""
