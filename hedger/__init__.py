"""What to hold: simulators, instruments, frictions, policies, training, limits, order intents."""
