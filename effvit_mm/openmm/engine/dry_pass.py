"""What a training needs only when it runs, at its end or to validate, tried before it begins.

It takes an image of each set through its pipeline, the model and the evaluators: seconds, where the
first validation would come after an epoch. The main process tries for all.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mmengine.registry as root
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import CheckpointHook, Hook
from mmengine.structures import InstanceData

from ...errors import ConfigError, UserError
from ...utils.distributed import on_main_process
from ...utils.files import check_writable
from ..config.arguments import metric_nodes, node_class
from ..config.building import BUILD_ERRORS, one_line
from ..data_checks.image_sizes import check_resized_sizes
from ..data_checks.matches import find_match
from ..data_checks.pipelines import check_pipeline
from ..data_checks.shared_images import describe_shared, image_files
from ..registry import HOOKS
from .checkpoints import CheckpointHook as OwnCheckpointHook
from .checkpoints import unknown_metric_message
from .seeding import is_by_epoch
from .training_step import check_training_step, explained

OF_IMAGES = ('img_id', 'img_path', 'img_shape', 'ori_shape', 'scale_factor')  # of meta_keys
# Attributes of metrics that name files which they write.
FILES_OF_METRICS = ('outfile_prefix', 'out_file_path', 'path')


@HOOKS.register_module()
class DryPassHook(Hook):
    """Try a training step, validation or test on one image, and the folders written to.

    Raises:
        ConfigError: An argument of an evaluator, a metric's name or a folder that cannot work.
        DataError: A set that the training or its validation would break at.
    """

    # When the other hooks know where they write, but before a validation that is made up for.
    priority = 'LOWEST'

    def before_train(self, runner) -> None:
        on_main_process(lambda: self._try_training(runner))

    def before_test(self, runner) -> None:
        on_main_process(lambda: self._try_test(runner))

    def _try_test(self, runner) -> None:
        check_drawings(runner)
        try_evaluation(runner, 'test')

    def _try_training(self, runner) -> None:
        check_folders(runner)
        warn_of_late_checkpoints(runner)
        check_head(runner.bare_model)
        check_resized_sizes(runner.train_dataloader.dataset, 'train_dataloader')
        check_pipeline(runner.train_dataloader.dataset, 'train_dataloader')
        check_training_step(runner)
        check_later_pipelines(runner)
        if runner.val_loop is not None:
            tell_shared_images(runner)
            check_watched(runner, try_evaluation(runner, 'val'))


def check_folders(runner) -> None:
    """Raise where a hook could not write; the work folder itself was tried before."""
    for hook in runner.hooks:
        folder = getattr(hook, 'out_dir', None)
        if folder and '://' not in str(folder) and Path(folder) != Path(runner.work_dir):
            check_writable(folder, f'out_dir of {type(hook).__name__}')


def check_drawings(runner) -> None:
    """Raise where mmdet's hook could not write what it draws of a test."""
    for hook in runner.hooks:
        if folder := getattr(hook, 'test_out_dir', None):
            place = Path(runner.work_dir) / runner.timestamp / folder
            check_writable(place, f'test_out_dir of {type(hook).__name__}')


def warn_of_late_checkpoints(runner) -> None:
    """A loop by iterations is one epoch to hooks: what goes by epochs is saved at its end alone."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.by_epoch and not is_by_epoch(runner):
            runner.logger.warning(
                f'the first checkpoint is written after all {runner.max_iters} iterations, as '
                'default_hooks.checkpoint goes by epochs and train_cfg does not; for earlier ones '
                'set default_hooks.checkpoint.by_epoch=False and '
                'default_hooks.checkpoint.interval=ITERATIONS'
            )


def tell_shared_images(runner) -> None:
    """Tell of images that are validated on and trained on."""
    train, judged = (
        image_files(loader.dataset) for loader in (runner.train_dataloader, runner.val_dataloader)
    )
    if text := describe_shared(train, judged, 'val_dataloader'):
        runner.logger.warning(text)


def check_head(model: torch.nn.Module) -> None:
    """Raise where a classifier's head would log an accuracy among more classes than it has."""
    head = getattr(model, 'head', None)
    topk, classes = getattr(head, 'topk', ()), getattr(head, 'num_classes', None)
    if getattr(head, 'cal_acc', False) and classes is not None and max(topk) > classes:
        raise ConfigError(
            f'model.head.topk={topk}: the model tells {classes} classes apart; numbers from 1 to '
            f'{classes} are possible, or set model.head.cal_acc=False'
        )


def check_watched(runner, figures: Mapping[str, float]) -> None:
    """Raise where a hook or a schedule waits for a figure that no evaluator gives.

    ``figures``: of :func:`try_evaluation`; where they could not be computed nothing is known.
    """
    for hook in runner.hooks:
        for name in getattr(hook, 'save_best', None) or ():
            if figures and name not in ('auto', *figures):
                raise ConfigError(unknown_metric_message(name, figures))
            if not figures and name != 'auto':
                check_prefix(name, runner.val_evaluator.metrics)
            if figures and name == 'auto':
                check_first_figure(hook, figures)
        if isinstance(hook, OwnCheckpointHook):
            hook.check_rule()
    schedules = runner.param_schedulers or []
    if isinstance(schedules, Mapping):  # of several optimizers
        schedules = [schedule for part in schedules.values() for schedule in part]
    for watcher in (*runner.hooks, *schedules):
        name = getattr(watcher, 'monitor', None)
        if figures and name is not None and name not in figures:
            known = ', '.join(map(repr, figures))
            raise ConfigError(
                f'monitor={name!r} of {type(watcher).__name__}: val_evaluator gives no such '
                f'figure; it gives {known}'
            )


def check_prefix(name: str, metrics: Sequence[BaseMetric]) -> None:
    """Raise where a figure's name begins as those of no evaluator, as far as these say."""
    prefixes = {metric.prefix for metric in metrics}
    if None not in prefixes and name.split('/')[0] not in prefixes:
        begins = ', '.join(f'{prefix}/' for prefix in sorted(prefixes))
        raise ConfigError(
            f'default_hooks.checkpoint.save_best={name!r}: the metrics of val_evaluator begin with '
            f"{begins} ('auto' takes the first)"
        )


def check_first_figure(hook: CheckpointHook, figures: Mapping[str, float]) -> None:
    """Raise where ``save_best='auto'``, which takes the first figure, could not compare it."""
    first = next(iter(figures))
    try:
        float(figures[first])
        CheckpointHook._init_rule(copy.copy(hook), hook.rules, [first])
    except (ValueError, TypeError, RuntimeError) as error:
        others = ', '.join(map(repr, list(figures)[1:]))
        named = f'one of {others}, ' if others else ''
        raise ConfigError(
            f"default_hooks.checkpoint.save_best='auto' takes the first figure, {first!r}, which "
            f'cannot be compared ({one_line(error)}); set save_best to {named}or to None'
        ) from error


def check_later_pipelines(runner) -> None:
    """Raise where a pipeline that a hook switches to after some epochs cannot take an image."""
    dataset = runner.train_dataloader.dataset
    for hook in runner.hooks:
        name = type(hook).__name__
        if hasattr(hook, 'skip_type_keys') and not hasattr(dataset, 'update_skip_type_keys'):
            raise ConfigError(
                f'{name} switches off steps of a MultiImageMixDataset, but '
                f'train_dataloader.dataset is a {type(dataset).__name__}; wrap it in one, or take '
                'the hook out'
            )
        steps = getattr(hook, 'switch_pipeline', None)
        if steps is None:
            continue
        try:
            other = copy.copy(dataset)
            other.pipeline = Compose(copy.deepcopy(steps))
            other[0]
        except BUILD_ERRORS as error:
            raise ConfigError(f'switch_pipeline of {name}: {one_line(error)}') from error


# The evaluation ---------------------------------------------------------------------------------


def try_evaluation(runner, split: str) -> dict[str, float]:
    """Take an image of ``'val'`` or ``'test'`` through pipeline, model and evaluators.

    Returns:
        The figures, which mean nothing but by their names; none where they cannot be computed of a
        few images.

    Raises:
        ConfigError: An argument of an evaluator cannot work, or the evaluator is of another task.
        DataError: No query of a re-ID set can have a match, or an image cannot be used.
    """
    loop = getattr(runner, f'{split}_loop')
    loader, key = loop.dataloader, f'{split}_evaluator'
    check_resized_sizes(loader.dataset, f'{split}_dataloader')
    check_pipeline(loader.dataset, f'{split}_dataloader')
    places = find_match(loader.dataset, f'{split}_dataloader')
    model = runner.bare_model.eval()
    batch = loader.collate_fn([loader.dataset[place] for place in places])
    predicted = [_with_an_object(sample) for sample in _predict(model, batch, split, runner.cfg)]
    nodes = list(metric_nodes(runner.cfg.get(key), key))
    metrics = loop.evaluator.metrics
    if type(loop.evaluator) is not Evaluator:  # then which images a metric judges is not known
        for metric in metrics:
            check_files(metric, f'{key}.metrics')
        return {}
    figures: dict[str, float] = {}
    with _silent(runner.logger), TemporaryDirectory() as folder:
        trial = Trial(batch, predicted, Path(folder))
        for index, metric in enumerate(metrics):
            # A metric that a tool has put in, as --out does, is of no config.
            named, node = nodes[index] if index < len(nodes) else (f'{key}[{index}]', {})
            check_files(metric, named)
            found = trial.judge_or_explain(metric, node if 'type' in node else {}, named)
            if found is None:
                return {}
            if twice := figures.keys() & found.keys():
                raise ConfigError(
                    f'{named} ({type(metric).__name__}): the figure {min(twice)!r} is that of an '
                    f'evaluator before it, too; set {named}.prefix to a word of its own'
                )
            figures |= found
    return figures


def _predict(model: torch.nn.Module, batch: Any, split: str, cfg: Config) -> Sequence:
    """What the model makes of a batch; a detector without its ``test_cfg`` makes nothing."""
    try:
        with torch.no_grad():
            return getattr(model, f'{split}_step')(batch)
    except UserError as error:
        raise explained(error, model, batch, split, cfg) from error
    except BUILD_ERRORS as error:
        heads = (getattr(model, name, None) for name in ('bbox_head', 'roi_head', 'mask_head'))
        settings = [h.test_cfg for h in (model, *heads) if hasattr(h, 'test_cfg')]
        missing = isinstance(error, AttributeError | KeyError | TypeError)
        if not missing or not settings or (all(settings) and 'ConfigDict' not in str(error)):
            raise explained(error, model, batch, split, cfg) from error
        raise ConfigError(
            f'model.test_cfg={settings[0]}: no image can be tested with it ({one_line(error)}); '
            'give what the model asks for, as score_thr, nms and max_per_img'
        ) from error


def check_files(metric: BaseMetric, key: str) -> None:
    """Raise where a metric could not write what it was told to."""
    for name in FILES_OF_METRICS:
        if path := getattr(metric, name, None):
            check_writable(Path(path).parent, f'{key}.{name}')


def _with_an_object(sample: Any) -> Any:
    """A prediction in which a detector found something: nothing exercises no evaluator."""
    found = getattr(sample, 'pred_instances', None)
    if found is None or len(found):
        return sample
    height, width = sample.get('ori_shape', (2, 2))[:2]  # whoever needs it says so
    made = InstanceData(
        bboxes=torch.tensor([[0.0, 0.0, width / 2, height / 2]]),
        scores=torch.ones(1),
        labels=torch.zeros(1, dtype=torch.int64),
    )
    if 'masks' in found:
        made.masks = torch.ones((1, height, width), dtype=torch.bool)
    sample.pred_instances = made
    return sample


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """What a trial's figures are printed as is not for the reader."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


class Trial:
    """Predictions of a few images, to be judged by metrics that are to stay as they are.

    Args:
        batch: What the loader gave.
        predicted: What the model made of it.
        folder: Where metrics write in the place of where they were told to.
    """

    def __init__(self, batch: Any, predicted: Sequence, folder: Path) -> None:
        self.batch, self.folder = batch, folder
        self.samples = [s.to_dict() if hasattr(s, 'to_dict') else s for s in predicted]

    def judge(self, metric: BaseMetric) -> dict[str, float]:
        """The figures of a copy of the metric."""
        own = self._collect(metric)
        if get_world_size() == 1:
            return own.evaluate(len(self.samples)) or {}
        if type(own).evaluate is not BaseMetric.evaluate:
            return {}  # it may wait for the other processes
        figures = own.compute_metrics(own.results) or {}
        return {f'{own.prefix}/{k}' if own.prefix else k: v for k, v in figures.items()}

    def _collect(self, metric: BaseMetric) -> BaseMetric:
        own = copy.copy(metric)
        own.results = []
        for name in FILES_OF_METRICS:
            if path := getattr(own, name, None):
                setattr(own, name, type(path)(self.folder / Path(path).name))
        ids = [sample.get('img_id') for sample in self.samples]
        if hasattr(own, 'img_ids') and None not in ids:  # COCO's: not those of the whole set
            own.img_ids = ids
        own.process(self.batch, [copy.copy(sample) for sample in self.samples])
        return own

    def judge_or_explain(
        self, metric: BaseMetric, node: Mapping, key: str
    ) -> dict[str, float] | None:
        """Figures; None of a metric that cannot be computed of so few images.

        Which argument is at fault is found by leaving out one after the other.
        """
        try:
            self._collect(metric)
        except UserError:
            raise
        except BUILD_ERRORS as error:
            if isinstance(error, KeyError) and error.args[:1] and error.args[0] in OF_IMAGES:
                raise ConfigError(
                    f'{key} ({type(metric).__name__}) looks for {error.args[0]!r} of an image; add '
                    f'it to the meta_keys of {key.split("_")[0]}_dataloader.dataset.pipeline'
                ) from error
            raise ConfigError(
                f'{key} ({type(metric).__name__}) cannot take what the model predicts: '
                f'{one_line(error)}; take an evaluator of this task'
            ) from error
        try:
            return self.judge(metric)
        except BUILD_ERRORS as error:
            if name := self._argument_at_fault(metric, node):
                default = _default(root.METRICS, node, name)
                raise ConfigError(
                    f'{key}.{name}={node[name]!r} ({type(metric).__name__}): '
                    f'{one_line(error).rstrip(".")}; leave it out{default}'
                ) from error
            if isinstance(error, UserError):
                raise
        return None

    def _argument_at_fault(self, metric: BaseMetric, node: Mapping) -> str | None:
        for name in node:
            if name == 'type':
                continue
            arguments = {key: value for key, value in node.items() if key != name}
            try:
                other = root.METRICS.build(copy.deepcopy(arguments))
                other.dataset_meta = metric.dataset_meta
                self.judge(other)
            except BUILD_ERRORS:
                continue
            return name
        return None


def _default(registry: root.Registry, node: Mapping, name: str) -> str:
    """``", or set its default, (1,)"``, where the class or one below it has one to write down."""
    cls = node_class(registry, node)
    for owner in () if cls is None else cls.__mro__:
        arguments = inspect.signature(owner).parameters if '__init__' in vars(owner) else {}
        if name in arguments:
            default = arguments[name].default
            written = default is not None and default is not inspect.Parameter.empty
            return f', or set its default, {default!r}' if written else ''
    return ''
