"""Photographs in, forged sequences with known answers out."""
