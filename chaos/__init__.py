"""Fault injection: makes faults and checks how jobs survive or end: ``python -m chaos``."""
