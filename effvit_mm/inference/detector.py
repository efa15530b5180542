"""A trained detector on images, folders, arrays and videos.

mmdet's own ``DetInferencer`` unpickles checkpoints, asks for the data set, holds all images and all
pictures in memory and knows no video: here its parts are put together anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from rich.console import Console
from rich.progress import track

from ..deploy import switch_modules
from ..errors import ConfigError, DataError
from ..openmm.compiling import compile_model
from ..openmm.config.building import one_line
from ..openmm.config.loading import load_config
from ..openmm.trained import build_detector, build_pipeline, find_device, find_labels, load_trained
from ..runtime import check_runtime
from ..utils.images import load_image
from ..visualization.pictures import draw_objects
from .inputs import Image, Input, Video, find_images

Result = dict[str, Any]
SCORE_THRESHOLD = 0.3


class DetInferencer:
    """Objects in images, by a trained detector; the data set need not be there.

    Args:
        config: Config file of the detector.
        checkpoint: Its weights: ``.pth`` or ``.safetensors``.
        device: ``'cpu'``, ``'cuda:0'``; None takes CUDA where there is one.
        deploy: Run the form that ``switch_to_deploy()`` makes: the same results, faster.
        cfg_options: ``key=value`` overrides of the config.
        trust_checkpoint: Read a checkpoint that holds more than weights; this can run code it
            carries.
        runtime: Compute the deployed network by another runtime on the CPU: ``'openvino'``,
            ``'onnxruntime'``, ``'inductor'``. It is compiled for the images' sizes as they come,
            and kept: see :func:`effvit_mm.compile`.
        precision: Of the runtime: ``'fp32'``, or ``'bf16'``.
        runtime_options: The runtime's own, by its own names.

    Attributes:
        classes: Names of the classes: of the checkpoint, else of the config, else numbers.

    Raises:
        ConfigError: The config or the device cannot be used.
        CheckpointError: The checkpoint cannot be read, or is of another model.

    Example::

        detector = effvit_mm.DetInferencer('config.py', 'epoch_12.pth')
        for result in detector(['a.jpg', 'b.jpg'], batch_size=2):
            print(result['image'], result['names'], result['boxes'])
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path,
        *,
        device: str | None = None,
        deploy: bool = True,
        cfg_options: Sequence[str] = (),
        trust_checkpoint: bool = False,
        runtime: str | None = None,
        precision: str = 'fp32',
        runtime_options: Mapping[str, Any] | None = None,
    ) -> None:
        if runtime is not None:
            check_runtime(runtime, precision, runtime_options)
            device = device or 'cpu'
        self.device = find_device(device)
        cfg = load_config(str(config), cfg_options)
        self.model = build_detector(cfg, str(config), checkpoint, trust_checkpoint)
        meta = load_trained(self.model, checkpoint, trust_checkpoint)
        self.classes, self.palette = find_labels(cfg, meta, self.model)
        self._read, self._prepare = build_pipeline(cfg)
        self.model.eval()
        if runtime is not None:
            compile_model(self.model, runtime, precision, runtime_options)
        elif deploy:
            switch_modules(self.model)
        self.model.to(self.device)

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
    ) -> Iterator[tuple[Image, Result]]:
        """Find objects and give results one by one, with their images: for any number of inputs.

        Arguments are those of a call. Results have masks where the detector finds some. Images
        share a batch only where the network gets them in one size, so that no result depends on
        what else is in the batch.
        """
        if batch_size < 1:
            raise ConfigError(f'batch_size={batch_size}: 1 or more is needed')
        if not 0 <= score_thr <= 1:
            raise ConfigError(f'score_thr={score_thr}: a number from 0 to 1 is needed')
        files = find_images(inputs)
        images = _frames(files)
        if progress:
            total = sum(file.frames if isinstance(file, Video) else 1 for file in files)
            console = Console(stderr=True)
            hidden = not console.is_terminal
            images = track(images, 'detecting', total or None, console=console, disable=hidden)
        return self._run(images, batch_size, score_thr)

    def _run(
        self, images: Iterable[Image], batch_size: int, score_thr: float
    ) -> Iterator[tuple[Image, Result]]:
        batch: list[tuple[Image, dict]] = []
        for image in images:
            data = self._load(image)
            if batch and (
                len(batch) == batch_size or data['inputs'].shape != batch[0][1]['inputs'].shape
            ):
                yield from self._detect(batch, score_thr)
                batch = []
            batch.append((image, data))
        if batch:
            yield from self._detect(batch, score_thr)

    def _load(self, image: Image) -> dict:
        """One image as the network's data preprocessor takes it."""
        if image.array is not None:
            from mmdet.datasets.transforms import LoadImageFromNDArray

            read = LoadImageFromNDArray(to_float32=self._read.to_float32)
            results = read({'img': image.array})
        else:
            try:
                results = self._read({'img_path': str(image.path)})
            except DataError:
                raise
            except Exception as error:  # loaders of others raise what their backends do
                raise DataError(f'image {image.path} cannot be read: {one_line(error)}') from error
        results['img_id'] = 0
        return self._prepare(results)

    def _detect(
        self, batch: Sequence[tuple[Image, dict]], score_thr: float
    ) -> Iterator[tuple[Image, Result]]:
        with torch.no_grad():
            samples = self.model.test_step(pseudo_collate([data for _, data in batch]))
        for (image, _), sample in zip(batch, samples, strict=True):
            yield image, self._result(image, sample, score_thr)

    def _result(self, image: Image, sample, score_thr: float) -> Result:
        objects = sample.pred_instances
        objects = objects[objects.scores >= score_thr].cpu()
        result = {
            'image': None if image.path is None else str(image.path),
            'frame': image.frame,
            'size': tuple(map(int, sample.ori_shape)),
            'boxes': objects.bboxes.numpy(),
            'scores': objects.scores.numpy(),
            'labels': objects.labels.numpy(),
            'names': [self.classes[label] for label in objects.labels.tolist()],
        }
        if 'masks' in objects:
            result['masks'] = np.asarray(objects.masks, dtype=bool)
        return result

    def draw(self, image: Image | str | Path | np.ndarray, result: Result) -> np.ndarray:
        """The image with its objects drawn: ``(H, W, 3)`` uint8, BGR."""
        if isinstance(image, Image):
            image = image.path if image.array is None else image.array
        array = image if isinstance(image, np.ndarray) else load_image(image)
        picture = draw_objects(
            np.ascontiguousarray(array[..., ::-1]),
            result['boxes'],
            result['labels'],
            result['scores'],
            result.get('masks'),
            self.classes,
            self.palette if isinstance(self.palette, list | tuple) else None,
            min_side=1,
        )
        return np.ascontiguousarray(picture[..., ::-1])


def _frames(files: Iterable[Image | Video]) -> Iterator[Image]:
    for file in files:
        if isinstance(file, Video):
            yield from file
        else:
            yield file
