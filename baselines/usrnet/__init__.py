"""USRNet (CVPR 2020)."""
