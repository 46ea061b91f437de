"""Run by the engine's interpreter: writes ONNX networks whose answers are plain to see in the image.

``pixels.onnx`` gives each pixel the number of its brightest band, ``objects.onnx`` that of the whole chip.
"""

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

folder = Path(sys.argv[1])


def write(name, nodes, shape, weights=()):
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, name, [image], [scores], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / f"{name}.onnx")


kernel = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1) * 50, "kernel")
write("pixels", [helper.make_node("Conv", ["images", "kernel"], ["scores"])], ["n", 3, "h", "w"], [kernel])
mean = helper.make_node("GlobalAveragePool", ["images"], ["mean"])
write("objects", [mean, helper.make_node("Flatten", ["mean"], ["scores"])], ["n", 3])
