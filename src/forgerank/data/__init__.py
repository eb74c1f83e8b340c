"""Data sets as readers of samples, and the path from a sample to tensors."""
