"""Market data as it happens: websockets of venues into the log."""
