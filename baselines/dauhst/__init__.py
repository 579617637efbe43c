"""DAUHST (NeurIPS 2022)."""
