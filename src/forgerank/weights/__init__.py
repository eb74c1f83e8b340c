"""Weights on disk: their description, the one reader that checks hash and seal, hubs, the model card.

>>> from forgerank.weights.description import load_weights
>>> load_weights().metadata.labels  # of the weights in the package
('nose', 'eye', 'eyebrow', 'lip', 'hair')
"""
