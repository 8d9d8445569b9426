"""What volatility and liquidity will be: targets, models, evaluation."""
