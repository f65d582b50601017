"""The reference engine: tiles, channels and memories, and the loop that runs them."""
