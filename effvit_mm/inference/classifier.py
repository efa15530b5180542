"""A trained classifier on images, folders, arrays and videos."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from ..errors import ConfigError
from ..openmm.trained import (
    build_classifier,
)
from ..runtime import Preprocessing, open_compiled
from ..runtime.network import CLASSES_KEY
from ..runtime.pixels import METADATA_KEY
from ..utils.images import load_image
from .batches import check_batch_size, in_batches, open_images
from .inputs import Image, Input, OnFault
from .models import check_model
from .trained_network import TrainedNetwork

TOP = 5


@dataclass(frozen=True)
class Classification:
    """What a classifier says of one image.

    Attributes:
        image: Its file; None of an array.
        frame: Its number in the video, from 0; None where it is no frame.
        scores: (C,) float32, of each class; their sum is 1.
        classes: Names of the C classes.
    """

    image: str | None
    frame: int | None
    scores: np.ndarray
    classes: tuple[str, ...]

    @property
    def label(self) -> int:
        """Number of the best class."""
        return int(self.scores.argmax())

    @property
    def name(self) -> str:
        """Name of the best class."""
        return self.classes[self.label]

    @property
    def score(self) -> float:
        """Of the best class."""
        return float(self.scores.max())

    def top(self, count: int = TOP) -> list[tuple[str, float]]:
        """Names and scores of the best classes, best first."""
        order = np.argsort(-self.scores, kind='stable')[:count]
        return [(self.classes[label], float(self.scores[label])) for label in order]

    def to_dict(self, count: int = TOP) -> dict[str, Any]:
        """As plain values: ``image``, ``frame``, ``label``, ``name``, ``score`` and ``top``."""
        best = {'label': self.label, 'name': self.name, 'score': self.score}
        top = [{'name': name, 'score': score} for name, score in self.top(count)]
        return {'image': self.image, 'frame': self.frame, **best, 'top': top}

    def to_json(self, count: int = TOP) -> str:
        """:meth:`to_dict` as one line."""
        return json.dumps(self.to_dict(count))


class Network(Protocol):
    """Images, one by one, and then the scores of several that are of one size.

    Attributes:
        classes: Names of the classes.
    """

    classes: tuple[str, ...]

    def load(self, image: Image) -> Any:
        """An image as the network takes it; a DataError for one that cannot be read."""

    def shape(self, loaded: Any) -> Sequence[int]:
        """Of what was loaded: those of one shape can be looked at together."""

    def scores(self, loaded: Sequence[Any]) -> np.ndarray:
        """(B, C), float32."""


class TrainedClassifier(TrainedNetwork):
    """A classifier of a config and a checkpoint; arguments are those of :class:`Classifier`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(build_classifier, *args)

    def load(self, image: Image) -> dict:
        """One image as the network's data preprocessor takes it."""
        return self._prepare(self.read(image))

    def read_array(self, array: np.ndarray) -> dict:
        size = array.shape[:2]
        return {'img': array, 'img_shape': size, 'ori_shape': size}

    @torch.no_grad()
    def scores(self, loaded: Sequence[dict]) -> np.ndarray:
        samples = self.model.test_step(pseudo_collate(loaded))
        return np.stack([sample.pred_score.cpu().numpy() for sample in samples])


class FileClassifier:
    """What ``export.py --preprocess`` wrote of a classifier, in its runtime."""

    def __init__(
        self,
        path: str | Path,
        runtime: str | None,
        precision: str,
        runtime_options: Mapping[str, Any] | None,
    ) -> None:
        self.network = open_compiled(path, runtime, precision, **(runtime_options or {}))
        about = self.network.session.about
        self.place = Preprocessing.from_json(about.get(METADATA_KEY, 'null'))
        if CLASSES_KEY not in about or self.place.steps is None:
            raise ConfigError(
                f'{path}: no classifier that takes photographs: export.py CONFIG CHECKPOINT '
                '--preprocess writes them'
            )
        self.classes = tuple(json.loads(about[CLASSES_KEY]))

    def load(self, image: Image) -> np.ndarray:
        array = load_image(image.path) if image.array is None else image.array
        return self.place(array)

    def shape(self, loaded: np.ndarray) -> Sequence[int]:
        return loaded.shape

    def scores(self, loaded: Sequence[np.ndarray]) -> np.ndarray:
        return self.network(torch.from_numpy(np.stack(loaded))).softmax(-1).numpy()


class Classifier:
    """Classes of images, by a trained classifier; the data set need not be there.

    Args:
        config: Config file of the classifier; or a file of ``export.py --preprocess``, ``.onnx`` or
            ``.xml``, which needs nothing else.
        checkpoint: The config's weights: ``.pth`` or ``.safetensors``.
        device: ``'cpu'``, ``'cuda:0'``; None takes CUDA where there is one.
        deploy: Run the form that ``switch_to_deploy()`` makes: the same results, faster.
        cfg_options: ``key=value`` overrides of the config.
        trust_checkpoint: Read a checkpoint that holds more than weights; this can run code it
            carries.
        runtime: Compute the deployed network by another runtime on the CPU: ``'openvino'``,
            ``'onnxruntime'``, ``'inductor'``: see :func:`effvit_mm.compile`. Of an exported file:
            by its suffix.
        precision: Of the runtime: ``'fp32'``, or ``'bf16'``.
        runtime_options: The runtime's own, by its own names.

    Attributes:
        classes: Names of the classes: of the checkpoint, else of the config, else numbers.

    Raises:
        ConfigError: The config or the device cannot be used, or an argument is of no use for a
            file.
        CheckpointError: The checkpoint cannot be read, or is of another model.

    Example::

        classifier = effvit_mm.Classifier('config.py', 'epoch_20.pth')
        for result in classifier(['a.jpg', 'b.jpg']):
            print(result.image, result.name, result.score, result.top(3))
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path | None = None,
        *,
        device: str | None = None,
        deploy: bool = True,
        cfg_options: Sequence[str] = (),
        trust_checkpoint: bool = False,
        runtime: str | None = None,
        precision: str = 'fp32',
        runtime_options: Mapping[str, Any] | None = None,
    ) -> None:
        running = runtime, precision, runtime_options
        self.network: Network
        if check_model(config, checkpoint, cfg_options, device):
            self.network = FileClassifier(config, *running)
        else:
            options = device, deploy, cfg_options, trust_checkpoint
            self.network = TrainedClassifier(config, checkpoint, *options, *running)
        self.classes = self.network.classes

    def __call__(
        self, inputs: Input, batch_size: int = 32, progress: bool = False
    ) -> list[Classification]:
        """Classify images.

        Args:
            inputs: An image file, a folder of images (not its subfolders), a video, an array, or a
                list of these. Arrays are uint8 in OpenCV's order, blue first: ``(H, W, 3)``, with
                alpha ``(H, W, 4)``, or grey ``(H, W)``.
            batch_size: Images that go through the network together.
            progress: Show a bar on the terminal.

        Raises:
            DataError: An input is missing, unreadable or of another kind; before the first image is
                looked at where it can be known by then.
        """
        return list(self.stream(inputs, batch_size, progress))

    def stream(
        self,
        inputs: Input,
        batch_size: int = 32,
        progress: bool = False,
        on_fault: OnFault | None = None,
    ) -> Iterator[Classification]:
        """The same one by one, for any number of inputs.

        With ``on_fault`` an image that cannot be used is left out, and its DataError handed over;
        without it the error ends all.
        """
        check_batch_size(batch_size)
        return self._run(open_images(inputs, progress, 'classifying'), batch_size, on_fault)

    def _run(
        self, images: Iterable[Image], batch_size: int, on_fault: OnFault | None
    ) -> Iterator[Classification]:
        network = self.network
        for batch in in_batches(images, network.load, network.shape, batch_size, on_fault):
            scores = self.network.scores([loaded for _, loaded in batch])
            for (image, _), own in zip(batch, scores, strict=True):
                path = None if image.path is None else str(image.path)
                yield Classification(path, image.frame, own, self.classes)
