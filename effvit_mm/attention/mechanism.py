"""What every attention mechanism is, and the table of those that there are.

A mechanism gets queries, keys and values with the heads already split, and where they lie in the
image; projections, pooling and what follows belong to the network around it, its host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

Size = tuple[int, int]
NO_GRID: Size = (0, 0)


class Layout(NamedTuple):
    """Where tokens lie: extra tokens (class, distillation) first, then a map, row by row.

    Attributes:
        query_grid: (H, W) of the queries' map; ``NO_GRID`` where the queries are the extra tokens
            alone.
        key_grid: (H, W) of the keys' and values' map.
        num_extra_tokens: Tokens in front of both maps that are not on the grid.
    """

    query_grid: Size
    key_grid: Size
    num_extra_tokens: int = 0


class Mechanism(Protocol):
    """A module that attends, built with ``num_heads``, ``key_dim``, ``value_dim`` (widths of one
    head) and options of its own.

    A flag that a mechanism does not have counts as False.

    Attributes:
        takes_bias: A bias of query-key pairs (relative positions) can enter it. May be a property
            that depends on the training mode.
        takes_mask: Such a bias, strongly negative, hides a key from a query altogether, in training
            and evaluation.
        takes_extra_queries: It may be called for the extra tokens' results alone (``NO_GRID``).
        samples_tokens: It drops tokens: takes ``tokens``, a :class:`TokenState`, and may return a
            :class:`Sampled`.
    """

    takes_bias: bool
    takes_mask: bool
    takes_extra_queries: bool
    samples_tokens: bool

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, bias: Tensor | None = None
    ) -> Tensor:
        """Attention of queries to keys.

        Args:
            q: ``(B, heads, N, key_dim)``.
            k: ``(B, heads, M, key_dim)``.
            v: ``(B, heads, M, value_dim)``.
            layout: Where the N queries and the M keys lie.
            bias: Broadcastable to ``(B, heads, N, M)``, for the logits; given only to a mechanism
                that takes one.

        Returns:
            ``(B, heads, N, value_dim)``.
        """


# Class name: class. A new mechanism is one file and one ``@register_mechanism``.
MECHANISMS: dict[str, type[nn.Module]] = {}
# Asked in turn for names that are not in the table: OpenMMLab's registry comes in here.
LOOKUPS: list[Callable[[str], type | None]] = []


def register_mechanism(cls: type[nn.Module]) -> type[nn.Module]:
    """Class decorator: let configs name the mechanism, ``attention=dict(type='ItsClass')``."""
    MECHANISMS[cls.__name__] = cls
    return cls


def build_mechanism(
    attention: Mapping | None,
    num_heads: int,
    key_dim: int,
    value_dim: int,
    may_sample: bool = False,
) -> nn.Module:
    """Build the mechanism of one attention layer.

    Args:
        attention: ``dict(type='SoftmaxAttention', ...)`` with the mechanism's options; its type is
            a class, one of ours by name, or a user's own that was registered. None is softmax
            attention.
        num_heads, key_dim, value_dim: Heads, and widths of one head.
        may_sample: The layer can do with fewer tokens than came in.

    Raises:
        TypeError: ``attention`` is no dict with a ``type``.
        ValueError: No mechanism is registered under its type, or it drops tokens and may not.
    """
    attention = {'type': 'SoftmaxAttention'} if attention is None else attention
    if not isinstance(attention, Mapping) or 'type' not in attention:
        raise TypeError(f"attention={attention!r}: a dict with a 'type' is needed")
    kind = attention['type']
    cls = find_mechanism(kind) if isinstance(kind, str) else kind
    if not callable(cls):
        raise ValueError(
            f'attention type {kind!r} is not registered; there are {", ".join(sorted(MECHANISMS))},'
            ' and what you register with effvit_mm.register_mechanism or in '
            'effvit_mm.registry.MODELS'
        )
    options = {key: value for key, value in attention.items() if key != 'type'}
    mechanism = cls(num_heads=num_heads, key_dim=key_dim, value_dim=value_dim, **options)
    if has(mechanism, 'samples_tokens') and not may_sample:
        raise ValueError(
            f'attention type {cls.__name__!r} drops the tokens that a class token pays least '
            'attention: it needs a class token that sees the whole map, and neither windows nor a '
            'network that pools or convolves the map afterwards can do with gaps in it'
        )
    return mechanism


def find_mechanism(name: str) -> type | None:
    """The mechanism of this name, a prefix ``effvit_mm.`` allowed; None if there is none."""
    if (cls := MECHANISMS.get(name.removeprefix('effvit_mm.'))) is not None:
        return cls
    return next((cls for lookup in LOOKUPS if (cls := lookup(name)) is not None), None)


def has(mechanism: nn.Module, flag: str) -> bool:
    """Whether a mechanism has one of the flags of :class:`Mechanism`, now."""
    return bool(getattr(mechanism, flag, False))


def check_choice(name: str, value: Any, allowed: Iterable) -> Any:
    """``value``, which must be one of ``allowed``.

    Raises:
        ValueError: It is none of them; names the argument, the value and what is allowed.
    """
    if value not in allowed:
        raise ValueError(f'{name}={value!r}: allowed are {", ".join(map(repr, allowed))}')
    return value
