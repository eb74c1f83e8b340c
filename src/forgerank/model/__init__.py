"""The network of Fig. 2: backbone, feature pyramid, patch tokens, transformer encoder, heads."""
