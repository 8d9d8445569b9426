"""Option quotes to an implied-volatility surface and its features."""
