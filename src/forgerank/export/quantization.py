"""Static int8 quantisation of an exported network's convolutions."""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from forgerank.data.batches import Item
from forgerank.detect.runtime import INPUT
from forgerank.train.module import to_images


class _Crops(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterable[Item]) -> None:
        self._batches: Iterator[Item] = iter(batches)

    def get_next(self) -> dict[str, object] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: to_images(batch).contiguous().numpy()}


def quantize(model: Path, target: Path, batches: Iterable[Item]) -> None:
    """Write `target`: `model` with quantised convolutions (QDQ), their ranges measured on `batches`.

    The transformer and the similarities stay in float32: differences between tokens are small.
    """
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # the quantiser logs its progress as warnings
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(model, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                target,
                _Crops(batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                # 7-bit weights: without VNNI, products of 8-bit pairs would saturate.
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        logger.setLevel(level)
