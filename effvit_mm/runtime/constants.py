"""What depends on sizes and weights alone, computed once: constants of a graph as constants."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx

# Checks of what is known already; other runtimes have no use for them.
CHECKS = (torch.ops.aten._assert_tensor_metadata.default,)


def fold_constants(module: fx.GraphModule) -> fx.GraphModule:
    """Make one buffer of each part of a program's module that no input reaches; gives it back.

    Masks, index tables, border corrections and gathered biases are made by hundreds of small
    operators, which converters would carry one by one.
    """
    values = _known_values(module)
    count = 0
    for node in list(module.graph.nodes):
        users = [user for user in node.users if user not in values]
        if node.op != 'call_function' or not users or not isinstance(values.get(node), Tensor):
            continue
        name = f'constant_{count}'
        count += 1
        module.register_buffer(name, values[node].clone())
        with module.graph.inserting_before(node):
            constant = module.graph.get_attr(name)
        for user in users:
            user.replace_input_with(node, constant)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _known_values(module: fx.GraphModule) -> dict[fx.Node, Any]:
    """The value of each node that depends on no input; checks are removed on the way."""
    values: dict[fx.Node, Any] = {}
    for node in list(module.graph.nodes):
        if node.op == 'get_attr':
            values[node] = operator.attrgetter(node.target)(module)
        elif node.op == 'call_function' and node.target in CHECKS:
            module.graph.erase_node(node)
        elif node.op == 'call_function' and all(n in values for n in node.all_input_nodes):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            with torch.no_grad():
                values[node] = node.target(*args, **kwargs)
    return values
