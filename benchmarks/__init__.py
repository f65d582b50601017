"""Measurements of the toolchain; the README's figures come from here."""
