"""USRNet-tiny (CVPR 2020)."""
