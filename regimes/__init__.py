"""Which state the market is in: fit, causal filter, decode."""
