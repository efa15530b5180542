"""Post-training quantisation of OpenVINO's files to eight bits, by NNCF."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .graph import Size, check_target, need, replaced_when_right
from .network import DeployedNetwork
from .openvino import OpenVINOSession, export_openvino
from .openvino_core import core, signal_stack_kept
from .quantised import (
    CalibrationImages,
    Labelled,
    Quantised,
    check_normalised,
    measure_cost,
    silent,
)

if TYPE_CHECKING:
    from openvino import Model, Node, Output

# What the file says of itself, beside the network's own lines.
CHOSEN = (
    'convolutions but depthwise, and linear layers; weights -64 to 63, a scale a channel; '
    'activations a range a tensor; right without VNNI too'
)
# What may stand between a weight and the product that it goes into.
PASSED_ON = ('Convert', 'Reshape', 'Transpose')
# What leaves the numbers of a row where they are.
ELEMENTWISE = ('Add', 'Multiply', 'Relu', 'Gelu', 'HSwish', 'Swish', 'Sigmoid', 'Tanh', 'Clamp')

PACKAGES = ('openvino', 'nncf')


def export_openvino_int8(
    network: DeployedNetwork,
    path: str | Path,
    size: Size,
    calibration: Labelled,
    comparison: Labelled,
) -> Quantised:
    """Write an ``.xml`` file whose convolutions and linear layers compute in eight bits.

    Activations have one range each; weights one for each channel, -64 to 63. What it costs in
    accuracy and saves in time is measured: :class:`Quantised`.

    Args:
        network: What to write.
        path: ``.xml`` file, the weights beside it as ``.bin``; what lies there is replaced.
        size: Height and width of the images, in pixels.
        calibration: Images to find the activations' ranges with: batches ``(B, 3, H, W)``,
            normalised, float32, each with its labels or None; may be iterated over several times.
        comparison: Other images, to measure the cost on.

    Raises:
        ConfigError: An argument that cannot be used; there are no images.
        ExportError: A package is missing, the network cannot be exported so, or the outputs are not
            finite.
    """
    path = check_target(path, '.xml')
    check_normalised(network)
    for package in PACKAGES:
        need(package)
    import openvino

    with TemporaryDirectory(prefix='effvit_mm_') as work, replaced_when_right(path, '.bin') as made:
        exact = Path(work) / 'float32.xml'
        # In eight bits the products of a tile's transforms would lose more than convolutions do.
        export_openvino(network, exact, size, winograd=False)
        images = CalibrationImages(calibration)
        model = quantise(core().read_model(exact), images)
        for key, value in {**network.metadata(None), 'int8': CHOSEN}.items():
            model.set_rt_info(value, ['effvit_mm', key])
        openvino.save_model(model, made, compress_to_fp16=False)
        logits = network.outputs == 'logits'
        return measure_cost(exact, made, OpenVINOSession, images.count, comparison, logits)


def quantise(model: Model, images: CalibrationImages) -> Model:
    """An int8 model of a float32 one, which is left as it is.

    - Weights fill half of int8's range (NNCF's ``OverflowFix.ENABLE``). x86-64 without VNNI adds
      products of unsigned by signed bytes in pairs, in 16 bits that saturate: 2 * 255 * 64 = 32640
      fits, 2 * 255 * 127 does not.
    - Products of two activations, those within attention, stay in float32: neither factor could be
      halved without loss, and they are a small part of the time. So do norms, softmax and sums
      (``ModelType.TRANSFORMER``), and depthwise convolutions, whose weights NNCF does not halve and
      which are no faster in eight bits.
    - So does a product of rows that come straight from another, as the second of a squeeze's: two
      such in int8 give OpenVINO 2026.4.1 numbers that differ from one start to the next, up to
      twice the right ones.
    - Activations are symmetric, without zero points (``QuantizationPreset.PERFORMANCE``), which
      without VNNI saves a fifth of the time.
    - No smoothing of activations' channels at the weights' cost (SmoothQuant): its products took
      PSLT a sixth of its time. It would move the outputs of a trained Castling-DeiT by 1.7 instead
      of 3.1 %, but not its accuracy.
    """
    import nncf

    exact = find_exact(model)
    # It draws bars, and makes cores of its own.
    with silent('nncf'), redirect_stdout(io.StringIO()), signal_stack_kept():
        return nncf.quantize(
            model,
            nncf.Dataset(images),
            subset_size=sum(1 for _ in images),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.PERFORMANCE,
            ignored_scope=nncf.IgnoredScope(names=exact),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE,
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1),
            ),
        )


def find_exact(model: Model) -> list[str]:
    """Names of a model's products that stay in float32."""
    return [node.get_friendly_name() for node in model.get_ops() if _stays(node)]


def _stays(node: Node) -> bool:
    """Whether this is a depthwise convolution, or a product of two activations or of a chain."""
    kind = node.get_type_name()
    if kind == 'MatMul':
        return not any(map(_is_weight, node.input_values())) or _goes_on(node)
    return kind == 'GroupConvolution'


def _goes_on(product: Node) -> bool:
    """Whether what a product takes is a row an image, straight from another product."""
    before = product.input_value(0).get_node()
    if len(product.input(0).get_partial_shape()) != 2:
        return False
    while before.get_type_name() in ELEMENTWISE:
        before = before.input_value(0).get_node()
    return before.get_type_name() == 'MatMul'


def _is_weight(value: Output) -> bool:
    """Whether a value is a constant, in whatever form it is stored."""
    node = value.get_node()
    while node.get_type_name() in PASSED_ON:
        node = node.input_value(0).get_node()
    return node.get_type_name() == 'Constant'
