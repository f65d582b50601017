"""Where what is simulated goes: statistics, and traces for Perfetto, Konata and scripts. Sinks only read."""
