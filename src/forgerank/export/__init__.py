"""Export: a trained network as the ONNX graph that the detector runs, with its description.

>>> from forgerank.export.onnx_graph import ExportGraph
>>> from forgerank.model.config import ModelConfig
>>> from forgerank.model.network import Network
>>> network = Network(ModelConfig(backbone="test_resnet.r160_in1k", input_size=64, width=16, heads=2))
>>> ExportGraph(network, tau=0.1).outputs[:3]
['gap', 'probability', 'component_probabilities']
"""
