"""DGUNet+ (CVPR 2022)."""
