"""The contract that every backbone keeps, in one class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import ImageSizeError
from .deployable import Deployable

# Of a variant: the smallest and the largest that can be.
WHOLE = {
    'embed_dims': (1, 100_000), 'num_heads': (1, 2**16), 'depths': (0, 1000), 'depth': (1, 1000),
    'key_dim': (1, 2**16), 'img_size': (1, 2**16),
}  # fmt: skip
BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def leaves(value: Any) -> Iterator[Any]:
    """Values of tuples and lists within each other."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


class FeatureMaps(Protocol):
    """What necks, heads, configs and exports ask of a backbone; another project's fits with this.

    Attributes:
        min_size: Pixels of the smallest side that it takes.
    """

    min_size: int

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of the maps that it returns, in their order."""

    @property
    def out_strides(self) -> tuple[float, ...]:
        """Input pixels a cell of these maps."""

    def __call__(self, x: Tensor) -> tuple[Any, ...]:
        """Images ``(B, 3, H, W)`` to maps, each ``(B, C, H / stride, W / stride)``, rounded up."""

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter's layer, and the number of layers, for layer-wise decay."""


class Backbone(Deployable):
    """Images in, a tuple of feature maps out, at any input size.

    For deployment, :meth:`switch_to_deploy` brings it into a faster form with the same outputs.

    A subclass builds ``stem`` and ``stages``, a list of modules that each hold a sequence of
    blocks; only stages up to the last of ``out_indices`` are built, so that every parameter takes
    part in training. It calls :meth:`finish` at the end of its constructor.

    Args:
        arch: A name of the class's table of variants, or a dict with the table's keys.
        out_indices: Stages whose maps are returned: an int or a sequence; negative counts from the
            end.
        frozen_stages: Freeze the stem and this many stages (0: the stem alone, -1: nothing): no
            gradient, and evaluation mode while the rest trains.
        norm_eval: Keep batch norms in evaluation mode while training.
        with_cp: Activation checkpointing: recompute each block in the backward pass.
    """

    arch_settings: ClassVar[Mapping[str, Mapping]] = {}
    min_size: int = 32
    num_maps: ClassVar[int] = 4  # what out_indices chooses from
    num_stages: ClassVar[int | None] = None  # None: as many as the chosen maps need

    def __init__(
        self,
        arch: str | Mapping,
        out_indices: int | Sequence[int],
        frozen_stages: int,
        norm_eval: bool,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.arch = arch if isinstance(arch, str) else 'custom'
        self.out_indices = normalise_indices(out_indices, self.num_maps)
        built = self.num_stages or self.out_indices[-1] + 1
        if type(frozen_stages) is not int or not -1 <= frozen_stages <= built:
            raise ValueError(
                f'frozen_stages={frozen_stages!r}: allowed are -1 (nothing) to {built} (stem and '
                f'all {built} stages that out_indices={self.out_indices} needs)'
            )
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.stage_channels: tuple[int, ...] = ()
        self.stage_strides: tuple[float, ...] = ()
        self.stem: nn.Module
        self.norm: nn.Module
        self.stages: Any  # a ModuleList of sequences of blocks

    @classmethod
    def settings(cls, arch: str | Mapping) -> dict:
        """The table row of ``arch``, or a dict of the same keys, checked.

        Raises:
            ValueError: An unknown name; a missing or unknown key; numbers that cannot be.
        """
        if isinstance(arch, str):
            if arch not in cls.arch_settings:
                known = ', '.join(cls.arch_settings)
                raise ValueError(
                    f'arch={arch!r} is no variant of {cls.__name__}; there are: {known}'
                )
            return dict(cls.arch_settings[arch])
        if not isinstance(arch, Mapping):
            raise TypeError(f'arch must be a name or a dict, not {type(arch).__name__}: {arch!r}')
        keys = set(next(iter(cls.arch_settings.values())))
        if missing := keys - set(arch):
            raise ValueError(f'arch lacks {sorted(missing)}; it needs {sorted(keys)}')
        if unknown := set(arch) - keys:
            raise ValueError(f'arch has unknown {sorted(unknown)}; it takes {sorted(keys)}')
        for key, row in next(iter(cls.arch_settings.values())).items():
            _check_form(key, arch[key], row)
        for key, (low, high) in WHOLE.items():
            if key in arch and not all(
                type(number) is int and low <= number <= high for number in leaves(arch[key])
            ):
                raise ValueError(
                    f'arch: {key}={arch[key]!r}: whole numbers from {low} to {high} are needed'
                )
        return dict(arch)

    def finish(self, channels: Sequence[int], strides: Sequence[float]) -> None:
        """Declare channels and strides of all maps; set up freezing."""
        self.stage_channels, self.stage_strides = tuple(channels), tuple(strides)
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.train(self.training)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of the returned maps, in their order: what a neck's ``in_channels`` must be."""
        return tuple(self.stage_channels[i] for i in self.out_indices)

    @property
    def out_strides(self) -> tuple[float, ...]:
        """Input pixels a cell of the returned maps, in their order."""
        return tuple(self.stage_strides[i] for i in self.out_indices)

    def map_size(self, size: Sequence[int], index: int) -> tuple[int, int]:
        """(H, W) of the map ``index`` for images of ``size`` = (H, W) pixels."""
        height, width = (-int(-side // self.stage_strides[index]) for side in size)
        return height, width

    def norm_behind(self, stage: int) -> nn.Module:
        """The norm of a stage's output: ``norm``, where there is one, is behind the last."""
        last = stage == self.num_maps - 1
        return self.norm if last and hasattr(self, 'norm') else nn.Identity()

    def check_input(self, x: Tensor) -> None:
        """Raise where ``x`` is not a batch of images that this network can take.

        Raises:
            ValueError: It is no ``(B, 3, H, W)``, or of whole numbers.
            ImageSizeError: Its sides are below ``min_size`` pixels.
        """
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(
                f'{type(self).__name__} takes images (B, 3, H, W), not {tuple(x.shape)}'
            )
        if not x.is_floating_point():
            raise ValueError(
                f'{type(self).__name__} takes images of floating-point numbers, normalised, not '
                f'{x.dtype}'
            )
        if any(side < self.min_size for side in x.shape[-2:]):
            raise ImageSizeError(
                f'{type(self).__name__} takes images of {self.min_size} pixels or more on each '
                f'side, not {x.shape[-2]}x{x.shape[-1]} (H x W)'
            )

    def run_block(self, block: nn.Module, *args: Any) -> Any:
        """``block(*args)``, under activation checkpointing where that was asked for."""
        if not (self.with_cp and torch.is_grad_enabled()):
            return block(*args)
        # Batch norms must see the batch once: the second forward leaves their statistics alone.
        contexts = lambda: (nullcontext(), _norm_statistics_kept(block))  # noqa: E731
        return checkpoint(block, *args, use_reentrant=False, context_fn=contexts)

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        if mode:
            norms = [m for m in self.modules() if self.norm_eval and isinstance(m, BatchNorm)]
            for module in (*self._frozen_modules(), *norms):
                module.eval()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter's layer, and the number of layers, for layer-wise decay.

        The stem is layer 0, each block is one layer, what follows the blocks (and the head of the
        model around the backbone) is the last.
        """
        blocks = [len(stage) for stage in self.stages]
        last = sum(blocks) + 1
        if not param_name.startswith(prefix):
            return last, last + 1
        parts = param_name[len(prefix) :].split('.')
        if parts[0] == 'stem':
            return 0, last + 1
        if parts[0] != 'stages':
            return last, last + 1
        stage, block = int(parts[1]), int(parts[2])
        return sum(blocks[:stage]) + block + 1, last + 1

    def _frozen_modules(self) -> list[nn.Module]:
        return [self.stem, *self.stages[: self.frozen_stages]] if self.frozen_stages >= 0 else []


def _check_form(key: str, value: Any, row: Any) -> None:
    """A value of a variant is one number, or as many as there are in a row of the table."""
    if isinstance(row, tuple) and (not isinstance(value, list | tuple) or len(value) != len(row)):
        raise ValueError(f'arch: {key}={value!r}: {len(row)} numbers are needed, as {row}')
    single = isinstance(value, int | float) and (key in WHOLE or value > 0)
    if isinstance(row, int | float) and not single:
        raise ValueError(f'arch: {key}={value!r}: a number above 0 is needed')


def normalise_indices(out_indices: int | Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Indices of stages as an ascending tuple of non-negative ints.

    Raises:
        ValueError: Empty, out of range, repeated or not ascending.
    """
    given = out_indices
    indices = [out_indices] if isinstance(out_indices, int) else out_indices
    if not isinstance(indices, Sequence) or not all(type(i) is int for i in indices):
        raise TypeError(f'out_indices={given!r}: an int or a sequence of ints is needed')
    low, high = -num_stages, num_stages - 1
    if not indices or any(not low <= i <= high for i in indices):
        raise ValueError(f'out_indices={given!r}: allowed are indices from {low} to {high}')
    result = tuple(i % num_stages for i in indices)
    if list(result) != sorted(set(result)):
        raise ValueError(f'out_indices={given!r}: indices must ascend and not repeat')
    return result


@contextmanager
def _norm_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Let batch norms normalise with the batch but not update their running statistics."""
    norms = [m for m in module.modules() if isinstance(m, BatchNorm)]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, count in kept:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Rates of stochastic depth rising linearly from 0 to ``rate`` over ``depth`` blocks."""
    if not 0 <= rate < 1:
        raise ValueError(f'drop_path_rate={rate!r}: a number in [0, 1) is needed')
    return [rate * i / max(depth - 1, 1) for i in range(depth)]


def init_linear_layers(module: nn.Module) -> None:
    """Linear layers: truncated normal of 0.02, bias 0. Other layers keep PyTorch's defaults."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.trunc_normal_(child.weight, std=0.02)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
