"""Whether the processor has instructions for bfloat16."""

from __future__ import annotations

import re
from pathlib import Path

INFO = Path('/proc/cpuinfo')
# Their flags there: of x86-64 (AVX-512 and AMX), and of ARM.
INSTRUCTIONS = frozenset(('avx512_bf16', 'amx_bf16', 'bf16'))


def has_bfloat16() -> bool | None:
    """Whether all cores multiply in bfloat16; without that PyTorch is slower in it than in float32.

    Returns:
        None where it is not known: the system is not Linux, or does not list the instructions.
    """
    text = INFO.read_text() if INFO.is_file() else ''
    cores = re.findall(r'^(?:flags|Features)\s*:(.*)$', text, re.MULTILINE)
    if not cores:
        return None
    return not any(INSTRUCTIONS.isdisjoint(core.split()) for core in cores)
