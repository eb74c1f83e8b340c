"""Weights on disk: what describes them, the one reader, folders and repositories that share them."""
