"""Where market events come from: simulators, recordings and venues."""
