"""GAP-TV (ICIP 2016)."""
