"""Benchmarks: time and memory of LoRun and of its alternatives, and the targets that LoRun should meet.

Times are compared as ratios within a round: each round runs every variant once, each in a process of its own, so that a
slow moment of the machine affects all of them. Tables give medians and quartiles. Bytes are counted, not measured
(`lorun.accounting`).
"""
