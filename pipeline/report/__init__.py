"""The report: figures and tables of one run, in one self-contained page."""
