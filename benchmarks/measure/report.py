"""What reports have in common: tables in Markdown, and the machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from effvit_mm.utils.processor import processor_features, processor_name


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, the first column to the left, the others to the right."""
    lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def describe_machine() -> str:
    """Processor, threads and versions that latency depends on, in one line."""
    cores = os.cpu_count() or 1
    threads = torch.get_num_threads()
    parts = processor_name(), f'{cores} core{"s" * (cores > 1)}', *processor_features()
    return f'{", ".join(parts)}, {threads} thread{"s" * (threads > 1)}, PyTorch {torch.__version__}'
