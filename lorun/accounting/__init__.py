"""What a network costs: parameters, bytes, floating-point operations, time.

Live bytes and FLOPs are counted, need no GPU and are the same on every machine, so the gate compares them. Peak bytes
on a GPU and milliseconds are measured on one machine.
"""
