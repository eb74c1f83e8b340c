"""Pure functions from a batch to a scalar: Eq. 4-12 in `mil`, 13-14 in `ranking`, 15 in `total`, 16-18 in
`cross_entropy`.

>>> import torch
>>> from forgerank.losses.mil import forgery_gap, forgery_probability
>>> tokens = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]]])  # one token differs from two equal ones
>>> forgery_probability(forgery_gap(tokens))  # Eq. 4-9
tensor([0.9640])
"""
