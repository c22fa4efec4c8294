"""Faults made on purpose, and what becomes of the jobs that they hit: ``python -m chaos``."""
