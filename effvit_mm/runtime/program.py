"""Programs of ``torch.export``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .graph import (
    Checked,
    Run,
    Size,
    check_target,
    compare,
    find_shapes,
    replaced_when_right,
    trace,
)
from .network import DeployedNetwork


def export_program(
    network: DeployedNetwork, path: str | Path, size: Size, any_size: bool = False
) -> list[Checked]:
    """Write a program of ``torch.export``; ``torch.export.load(path).module()`` runs it.

    Args:
        network: What to write.
        path: ``.pt2`` file; what lies there is replaced.
        size: Height and width of the images, in pixels.
        any_size: Let them vary, where the network allows it; ``size`` is an example then.

    Raises:
        ConfigError: An argument that cannot be used.
        ExportError: The network cannot be exported so, or the file's numbers are not PyTorch's.
    """
    path = check_target(path, '.pt2')
    shapes = find_shapes(network, size, any_size)
    graph = trace(network, shapes)
    with replaced_when_right(path) as made:
        torch.export.save(graph, made, extra_files=network.metadata(shapes.least))
        return compare(as_run(torch.export.load(made).module()), network, shapes)


def as_run(module: nn.Module) -> Run:
    """A module of PyTorch as a function from its inputs to arrays."""

    def run(*inputs: Tensor) -> list[np.ndarray]:
        with torch.no_grad():
            return [tensor.numpy() for tensor in module(*inputs)]

    return run
