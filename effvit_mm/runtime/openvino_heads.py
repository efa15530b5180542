"""Attention with as many heads as tokens, which OpenVINO's CPU plugin gets wrong otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .graph import need

if TYPE_CHECKING:
    from openvino import Model, Node

HEADS_BEHIND = [0, 2, 1, 3]  # (B, heads, L, C / heads) to (B, L, heads, C / heads)
ATTENTION = ('ScaledDotProductAttention', 'MatMul')


def tell_heads_from_tokens(model: Model) -> None:
    """Join heads by a transposition in five axes where there are as many of them as tokens.

    The plugin writes attention's result for the product behind it in another order, which it reads
    from the sizes alone: of equal ones it takes the wrong (OpenVINO 2026.4.1; 40 to 90 % of the
    largest value; ``findings/openvino_heads_as_many_as_tokens.sh``).
    """
    opset = need('openvino').opset13
    for node in model.get_ops():
        if node.get_type_name() != 'Transpose' or not _is_ambiguous(node):
            continue
        wide = opset.unsqueeze(node.input_value(0), opset.constant([4]))
        joined = opset.transpose(wide, opset.constant([*HEADS_BEHIND, 4]))
        for given in node.output(0).get_target_inputs():
            given.replace_source_output(joined.output(0))
    model.validate_nodes_and_infer_types()


def _is_ambiguous(node: Node) -> bool:
    """Whether this joins heads of attention, for reshapes alone, and sizes do not tell them."""
    order, sizes = node.input_value(1).get_node(), node.get_input_partial_shape(0)
    if order.get_type_name() != 'Constant' or list(order.data) != HEADS_BEHIND:
        return False
    users = {given.get_node().get_type_name() for given in node.output(0).get_target_inputs()}
    source = node.input_value(0).get_node().get_type_name()
    known = sizes[1].is_static and sizes[2].is_static
    return source in ATTENTION and users == {'Reshape'} and known and sizes[1] == sizes[2]
