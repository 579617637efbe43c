"""Benchmarks: time and bytes of what this suite does, as ratios, against the targets that it set itself.

Times come from a process per variant, taken in turn round after round, so that a noisy machine is noisy for all of them
alike; they are given as medians and quartiles. Bytes are counted, not measured (`lorun.accounting`).
"""
