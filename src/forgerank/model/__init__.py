"""The network of Fig. 2, from images to tokens, logits and maps, and the baselines that it is compared with.

>>> import torch
>>> from forgerank.model.baselines import build_network
>>> from forgerank.model.config import ModelConfig
>>> network = build_network(ModelConfig(backbone="test_resnet.r160_in1k", width=32, input_size=64))
>>> network(torch.rand(2, 3, 64, 64)).logits.shape  # two images, five components
torch.Size([2, 5])
"""
