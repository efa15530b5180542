"""What is written to a file: a network in its deployed form, and what the file says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..deploy import switch_modules
from .graph import difference
from .layout import NORMALISED, PIXELS, Layout
from .pixels import METADATA_KEY, Normalise, Preprocessing
from .token_budgets import token_budgets

CLASSES_KEY = 'classes'  # of a classifier's metadata: their names, as JSON
FEATURES_KEY = 'features'  # of a re-ID model's: identity and preparation, as JSON
IMAGENET = {'mean': (123.675, 116.28, 103.53), 'std': (58.395, 57.12, 57.375), 'order': 'RGB'}


class DeployedNetwork(nn.Module):
    """A network in evaluation, deployed: images to a tuple of tensors.

    Args:
        network: Maps images to a tensor or to nested sequences of tensors; is brought into its
            deployed form in place.
        title: How messages and files call it.
        outputs: What the outputs are: ``'logits'``, ``'feature'``, ``'map'`` or ``'level'``; or
            the name of each.
        size: Height and width in pixels that it was made for; None where nothing says so.
        normalisation: ``mean`` and ``std`` of the pixels 0 to 255, and ``order`` (``'RGB'`` or
            ``'BGR'``), of its images; ImageNet's by default.
        method: Name of the method to call, for networks of OpenMMLab that have several.
        preprocessing: What makes photographs images of the network's size. Where it is given, the
            images are pixels, which are normalised here.
        about: Further entries of a file's metadata.

    Shapes:
        ``(B, 3, H, W)``, normalised, float32; pixels are ``(B, H, W, 3)``, BGR, uint8. Behind them
        what the network takes besides, ``(B, ...)``.
    """

    def __init__(
        self,
        network: nn.Module,
        title: str = 'model',
        outputs: str | tuple[str, ...] = 'logits',
        size: tuple[int, int] | None = None,
        normalisation: Mapping[str, Any] = IMAGENET,
        method: str = 'forward',
        preprocessing: Preprocessing | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.method = network, method
        self.title, self.outputs, self.size = title, outputs, size
        self.normalisation = normalisation
        self.preprocessing, self.about = preprocessing, dict(about or {})
        self.normalise = nn.Identity() if preprocessing is None else Normalise(normalisation)
        self.eval()
        switch_modules(self)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, *further: Tensor) -> tuple[Tensor, ...]:
        return tuple(_flatten(self.call(images, *further)))

    def call(self, images: Tensor, *further: Tensor) -> Any:
        """What the network itself returns."""
        return getattr(self.network, self.method)(self.normalise(images), *further)

    def further_inputs(self, batch: int, seed: int = 0) -> dict[str, Tensor]:
        """Examples of what the network takes beside images, by name; of most there is nothing.

        Networks that take something have a method of this name themselves.
        """
        own = getattr(self.network, 'further_inputs', None)
        return own(batch, seed) if own else {}

    @property
    def layout(self) -> Layout:
        """How the images lie in memory."""
        return NORMALISED if self.preprocessing is None else PIXELS

    @property
    def draws(self) -> int:
        """How many draws of images a comparison may take until each place of a batch has agreed.

        Of a network that drops tokens a token may lie so near the edge that rounding decides
        whether it is kept: such an image differs between runtimes, most do not.
        """
        return 5 if token_budgets(self) else 1

    def output_names(self, count: int) -> list[str]:
        """A name for each of ``count`` outputs: ``['logits']``, ``['map_0', 'map_1']``."""
        if not isinstance(self.outputs, str):
            return list(self.outputs)
        return [self.outputs] if count == 1 else [f'{self.outputs}_{i}' for i in range(count)]

    def difference(self, actual: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
        """How far outputs lie apart: largest difference over the largest value of the worst one.

        Networks whose outputs are no plain numbers have a method of this name themselves.
        """
        return getattr(self.network, 'difference', difference)(actual, wanted)

    def metadata(self, least: int | None) -> dict[str, str]:
        """What a file says of itself; ``least`` is the least side of images of any size."""
        about = {'model': self.title, **self.about}
        if least is not None:
            about['least_side'] = str(least)
        budgets = token_budgets(self)
        if any(budgets):
            about['token_budgets'] = ' '.join(map(str, budgets))
        if self.preprocessing is not None:  # mean and deviation are in the graph
            return {**about, 'channels': 'BGR', METADATA_KEY: self.preprocessing.to_json()}
        numbers = {key: self.normalisation[key] for key in ('mean', 'std')}
        texts = {key: ' '.join(f'{v:g}' for v in value) for key, value in numbers.items()}
        return {**about, 'channels': self.normalisation['order'], **texts}

    def notes(self) -> list[str]:
        """What a user should know of this network's graphs, a line each."""
        if None in token_budgets(self):
            return [
                'it drops tokens: without token budgets a graph has room for all sample points of '
                'each image, and saves little (docs/export.md)'
            ]
        return []


def _flatten(outputs: Tensor | Sequence) -> list[Tensor]:
    """The tensors of nested sequences: class tokens come as a list in a tuple."""
    if isinstance(outputs, Tensor):
        return [outputs]
    return [tensor for part in outputs for tensor in _flatten(part)]
