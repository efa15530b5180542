"""Class names in matplotlib's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from matplotlib import font_manager

# The first comes with matplotlib; the others, where they are installed, have Asia's scripts.
FONTS = ('DejaVu Sans', 'Noto Sans CJK JP', 'Noto Sans CJK SC', 'WenQuanYi Micro Hei',
         'Noto Sans Devanagari', 'Noto Sans Thai')  # fmt: skip
MAX_LENGTH = 24


def plain(name: str) -> str:
    """Matplotlib would set what stands between two dollars as a formula."""
    return name.replace('$', r'\$')


def short_names(names: Sequence[str]) -> list[str]:
    """The names as a picture can show them: long ones cut, and the number of the class for one
    that no installed font has the letters of."""
    letters = _letters()
    shown = [
        name if name and letters.issuperset(map(ord, name)) else f'class {label}'
        for label, name in enumerate(names)
    ]
    return [plain(n if len(n) <= MAX_LENGTH else f'{n[: MAX_LENGTH - 1]}\u2026') for n in shown]


@lru_cache
def fonts() -> tuple[str, ...]:
    """Installed fonts that have class names' letters, as matplotlib's ``family``."""
    installed = set(font_manager.get_font_names())
    return tuple(name for name in FONTS if name in installed)


@lru_cache
def _letters() -> frozenset[int]:
    files = [font_manager.findfont(name) for name in fonts()]
    return frozenset().union(*(font_manager.get_font(file).get_charmap() for file in files))
