"""Execution of programs: values, cycles and energy, and the command line above them."""
