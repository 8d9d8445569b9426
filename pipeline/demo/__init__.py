"""``hedgeflow demo``: the whole way, once."""
