"""What the market looks like: event schemas, books, bars and surfaces become feature vectors. No I/O."""
