"""What the processor is, and what it computes with."""

from __future__ import annotations

import platform
from pathlib import Path

INFO = Path('/proc/cpuinfo')
# By their flags there, of x86-64.
FEATURES = {
    'avx2': 'AVX2',
    'avx512f': 'AVX-512',
    'avx_vnni': 'VNNI',
    'avx512_vnni': 'VNNI',
    'avx512_bf16': 'bfloat16',
    'amx_bf16': 'AMX',
}


def processor_name() -> str:
    """The processor's name, as far as the system tells it."""
    return _facts().get('model name') or platform.processor() or platform.machine()


def processor_features() -> tuple[str, ...]:
    """What matters to networks' speed of the processor's instructions: ``('AVX2', 'VNNI')``.

    Names are ``'AVX2'``, ``'AVX-512'``, ``'VNNI'`` (sums of bytes' products in 32 bits),
    ``'bfloat16'`` and ``'AMX'`` (int8 and bfloat16). Empty where the system is not Linux or the
    processor not x86-64.
    """
    flags = _facts().get('flags', '').split()
    return tuple(dict.fromkeys(name for flag, name in FEATURES.items() if flag in flags))


def _facts() -> dict[str, str]:
    """Of the last core."""
    lines = INFO.read_text().splitlines() if INFO.is_file() else []
    return {key.strip(): value.strip() for key, _, value in (x.partition(':') for x in lines)}
