"""The bars robuststream is held to, one module per theme; `tools/benchmark.py` runs them."""
