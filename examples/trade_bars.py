"""Bars of one second of your own JSON trades, a symbol each, with VWAP:

hedgeflow stream messages examples/trade_bars.py --topics trades --to trades.bars
"""

from pipeline.messages import MessageBars

STAGE = MessageBars(key="symbol", time="ts", price="price", size="size")
