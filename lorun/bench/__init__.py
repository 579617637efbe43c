"""Benchmarks: time and bytes of what this suite does, as ratios, against the targets it set itself.

Times come from one process per variant, run in turn, so that a noisy machine is noisy for all of them alike. Bytes
are counted, not measured (`lorun.accounting`). What each file of a benchmark holds is said where it is written.
"""
