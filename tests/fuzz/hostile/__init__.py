"""Hostile inputs: small valid files and what damages them.

All chance comes from a `random.Random`: an input follows from a number, whether Hypothesis or
benchmarks/fuzz.py draws it.
"""
