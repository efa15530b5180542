"""What reports have in common: tables in Markdown, and the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

# By their flag in Linux's /proc/cpuinfo.
VECTOR_UNITS = {'avx2': 'AVX2', 'avx512f': 'AVX-512', 'amx_bf16': 'AMX'}


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, the first column to the left, the others to the right."""
    lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def describe_machine() -> str:
    """Processor, threads and versions that latency depends on, in one line."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (x.partition(':') for x in lines)}
    name = facts.get('model name') or platform.processor() or platform.machine()
    flags = facts.get('flags', '').split()
    units = [unit for flag, unit in VECTOR_UNITS.items() if flag in flags]
    cores = os.cpu_count() or 1
    threads = torch.get_num_threads()
    return (
        f'{", ".join((name, f"{cores} core" + "s" * (cores > 1), *units))}, '
        f'{threads} thread{"s" * (threads > 1)}, PyTorch {torch.__version__}'
    )
