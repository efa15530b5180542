"""A trained detector on images of all kinds.

mmdet's own ``DetInferencer`` unpickles checkpoints, asks for the data set, holds all images and all
pictures in memory and knows no video: here its parts are put together anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..runtime.exported_detector import Objects
from ..utils.images import load_image
from ..visualization.pictures import draw_objects
from .detectors import SCORE_THRESHOLD, FileDetector, TrainedDetector
from .inferencer import Inferencer
from .inputs import Input
from .models import check_model
from .results import Detection
from .videos import Image


class Detector(Inferencer[Detection]):
    """Objects in images, by a trained detector; the data set need not be there.

    Args:
        config: Config file of the detector; or a file of ``export.py --part detector``, ``.onnx``
            or ``.xml``, which needs nothing else: no checkpoint, no mmdet.
        checkpoint: The config's weights: ``.pth`` or ``.safetensors``.
        device: ``'cpu'``, ``'cuda:0'``; None takes CUDA where there is one.
        deploy: Run the form that ``switch_to_deploy()`` makes: the same results, faster.
        cfg_options: ``key=value`` overrides of the config.
        trust_checkpoint: Read a checkpoint that holds more than weights; this can run code it
            carries.
        runtime: Compute the deployed network by another runtime on the CPU: ``'openvino'``,
            ``'onnxruntime'``, ``'inductor'``. It is compiled for the images' sizes as they come,
            and kept: see :func:`effvit_mm.compile`. Of an exported file: by its suffix.
        precision: Of the runtime: ``'fp32'``, or ``'bf16'``.
        runtime_options: The runtime's own, by its own names.

    Attributes:
        classes: Names of the classes: of the checkpoint, else of the config, else numbers.

    Raises:
        ConfigError: The config or the device cannot be used, or an argument is of no use for a
            file.
        CheckpointError: The checkpoint cannot be read, or is of another model.

    Example::

        detector = effvit_mm.Detector('config.py', 'epoch_12.pth')
        for result in detector(['a.jpg', 'b.jpg'], batch_size=2):
            print(result.image, result.names, result.boxes)
    """

    batch_size = 1
    doing = 'detecting'

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
        if check_model(config, checkpoint, cfg_options, device):
            self.network = FileDetector(config, *running)
        else:
            options = device, deploy, cfg_options, trust_checkpoint
            self.network = TrainedDetector(config, checkpoint, *options, *running)
        self.classes = self.network.classes

    def __call__(
        self,
        inputs: Input,
        batch_size: int | None = None,
        score_thr: float = SCORE_THRESHOLD,
        masks: bool = False,
        progress: bool = False,
        *,
        rgb: bool = False,
        subfolders: bool = False,
        on_error: str = 'raise',
    ) -> list[Detection]:
        """Find objects: :meth:`Inferencer.__call__`, and two arguments more.

        Args:
            inputs, batch_size, progress, rgb, subfolders, on_error: As there.
            score_thr: Objects below this score are left out.
            masks: Give masks too, where the detector finds some.
        """
        options = {'rgb': rgb, 'subfolders': subfolders, 'on_error': on_error}
        return list(self.stream(inputs, batch_size, score_thr, masks, progress, **options))

    def stream(
        self,
        inputs: Input,
        batch_size: int | None = None,
        score_thr: float = SCORE_THRESHOLD,
        masks: bool = False,
        progress: bool = False,
        *,
        rgb: bool = False,
        subfolders: bool = False,
        on_error: str = 'raise',
    ) -> Iterator[Detection]:
        """The same one by one, as they are asked for: for any number of inputs."""
        options = {'rgb': rgb, 'subfolders': subfolders, 'on_error': on_error}
        options.update(score_thr=score_thr, masks=masks)
        pairs = self.stream_with_images(inputs, batch_size, progress, **options)
        return (result for _, result in pairs)

    def check(self, score_thr: float = SCORE_THRESHOLD, masks: bool = False) -> None:
        """Raise where the threshold is none."""
        if not 0 <= score_thr <= 1:
            raise ConfigError(f'score_thr={score_thr}: a number from 0 to 1 is needed')

    def result(self, image: Image, found: Objects) -> Detection:
        """Of the objects of an image."""
        names = [self.classes[label] for label in found.labels.tolist()]
        size, boxes, scores, labels, masks, left_out = found
        return Detection(
            image.name, image.frame, size, boxes, scores, labels, names, masks, left_out
        )

    def draw(self, image: Image | str | Path | np.ndarray, result: Detection) -> np.ndarray:
        """The image with its objects drawn: ``(H, W, 3)`` uint8, BGR.

        Args:
            image: Its file, an array in BGR, or what ``stream_with_images`` gave.
            result: What was found in it.
        """
        if isinstance(image, Image):
            image = image.pixels()
        array = image if isinstance(image, np.ndarray) else load_image(image)
        palette = self.network.palette
        picture = draw_objects(
            np.ascontiguousarray(array[..., ::-1]),
            result.boxes,
            result.labels,
            result.scores,
            result.masks,
            self.classes,
            palette if isinstance(palette, list | tuple) else None,
            min_side=1,
        )
        return np.ascontiguousarray(picture[..., ::-1])


DetInferencer = Detector  # its name in earlier versions
