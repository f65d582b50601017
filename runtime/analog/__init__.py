"""Analog macros: how the sums of their cells differ from exact ones (docs/analog.md)."""
