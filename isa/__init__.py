"""The shared vocabulary of `cim`: instructions, programs, hardware descriptions, diagnostics.

`isa` imports nothing else of this project; the compiler and the simulator both import it and never
each other.
"""
