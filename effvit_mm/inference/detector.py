"""A trained detector on images, folders, arrays and videos.

mmdet's own ``DetInferencer`` unpickles checkpoints, asks for the data set, holds all images and all
pictures in memory and knows no video: here its parts are put together anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..runtime.exported_detector import Objects
from ..utils.images import load_image
from ..visualization.pictures import draw_objects
from .batches import check_batch_size, in_batches, open_images
from .detectors import Detector, FileDetector, TrainedDetector
from .inputs import Image, Input, OnFault
from .models import check_model

Result = dict[str, Any]
SCORE_THRESHOLD = 0.3


class DetInferencer:
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

        detector = effvit_mm.DetInferencer('config.py', 'epoch_12.pth')
        for result in detector(['a.jpg', 'b.jpg'], batch_size=2):
            print(result['image'], result['names'], result['boxes'])
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
        self.detector: Detector
        if check_model(config, checkpoint, cfg_options, device):
            self.detector = FileDetector(config, *running)
        else:
            options = device, deploy, cfg_options, trust_checkpoint
            self.detector = TrainedDetector(config, checkpoint, *options, *running)
        self.classes = self.detector.classes

    def __call__(
        self,
        inputs: Input,
        batch_size: int = 1,
        score_thr: float = SCORE_THRESHOLD,
        masks: bool = False,
        progress: bool = False,
    ) -> list[Result]:
        """Find objects.

        Args:
            inputs: An image file, a folder of images (not its subfolders), a video, an array, or a
                list of these. Arrays are uint8 in OpenCV's order, blue first: ``(H, W, 3)``, with
                alpha ``(H, W, 4)``, or grey ``(H, W)``.
            batch_size: Images that go through the network together.
            score_thr: Objects below this score are left out.
            masks: Give masks too, where the detector finds some: ``(N, H, W)`` bool.
            progress: Show a bar on the terminal.

        Returns:
            A dict for each image or frame: ``image`` (the file; None of an array), ``frame`` (its
            number in the video, from 0; else None), ``size`` (height, width), ``boxes`` ``(N, 4)``
            float32 (left, top, right, bottom in pixels of the image as given), ``scores`` ``(N,)``,
            best first, ``labels`` ``(N,)`` int64, ``names`` of the N classes and, if asked for,
            ``masks``.

        Raises:
            DataError: An input is missing, unreadable or of another kind; before the first image is
                looked at where it can be known by then.
        """
        results = []
        for _, result in self.stream(inputs, batch_size, score_thr, progress):
            if not masks:
                result.pop('masks', None)
            results.append(result)
        return results

    def stream(
        self,
        inputs: Input,
        batch_size: int = 1,
        score_thr: float = SCORE_THRESHOLD,
        progress: bool = False,
        on_fault: OnFault | None = None,
    ) -> Iterator[tuple[Image, Result]]:
        """Find objects and give results one by one, with their images: for any number of inputs.

        Arguments are those of a call. Results have masks where the detector finds some. Images
        share a batch only where the network gets them in one size, so that no result depends on
        what else is in the batch. With ``on_fault`` an image that cannot be used is left out, and
        its DataError handed over; without it the error ends all.
        """
        check_batch_size(batch_size)
        if not 0 <= score_thr <= 1:
            raise ConfigError(f'score_thr={score_thr}: a number from 0 to 1 is needed')
        images = open_images(inputs, progress, 'detecting')
        return self._run(images, batch_size, score_thr, on_fault)

    def _run(
        self,
        images: Iterable[Image],
        batch_size: int,
        score_thr: float,
        on_fault: OnFault | None,
    ) -> Iterator[tuple[Image, Result]]:
        detector = self.detector
        for batch in in_batches(images, detector.load, detector.shape, batch_size, on_fault):
            found = detector.find([loaded for _, loaded in batch], score_thr)
            for (image, _), objects in zip(batch, found, strict=True):
                yield image, self._result(image, objects)

    def _result(self, image: Image, objects: Objects) -> Result:
        result = {
            'image': None if image.path is None else str(image.path),
            'frame': image.frame,
            **objects._asdict(),
            'names': [self.classes[label] for label in objects.labels.tolist()],
        }
        if objects.masks is None:
            del result['masks']
        return result

    def draw(self, image: Image | str | Path | np.ndarray, result: Result) -> np.ndarray:
        """The image with its objects drawn: ``(H, W, 3)`` uint8, BGR."""
        if isinstance(image, Image):
            image = image.path if image.array is None else image.array
        array = image if isinstance(image, np.ndarray) else load_image(image)
        palette = self.detector.palette
        picture = draw_objects(
            np.ascontiguousarray(array[..., ::-1]),
            result['boxes'],
            result['labels'],
            result['scores'],
            result.get('masks'),
            self.classes,
            palette if isinstance(palette, list | tuple) else None,
            min_side=1,
        )
        return np.ascontiguousarray(picture[..., ::-1])
