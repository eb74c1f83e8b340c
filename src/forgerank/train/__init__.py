"""Training: settings, data loaders, the LightningModule, runs and their checkpoints; needs the extra `train`.

>>> from forgerank.train.config import parse_config
>>> config = parse_config({"output": "runs/one", "data": {"roots": ["forged"]}}, "example")
>>> config.optim.schedule, config.ema_decay
('cosine', 0.999)
"""
