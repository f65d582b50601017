"""What instructions cost, and how the units of a tile work them off (docs/timing.md).

The simulation of whole systems (`runtime/timing`) and the compiler's prediction (`compiler/cost`) share it: both run
tiles, and differ in how these meet.
"""
