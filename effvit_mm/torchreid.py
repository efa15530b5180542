"""The one place that knows torchreid: its data sets for us, our models and data sets for it.

It is published under three names: ``torchreid`` (upstream), ``torchreid.reid`` (the package
torchreid 0.2.5) and ``pyppbox_torchreid``; the first that is installed is used.

``python -m effvit_mm.torchreid script.py ...`` runs a script of torchreid's with our models
registered and with checkpoints that can be read.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from torch import Tensor, nn

from .errors import ConfigError, DataError, UserError
from .models import backbone_arguments, find_model, list_models, refuse_unknown
from .reid.names import (
    DISTRACTOR,
    MARKET_FOLDERS,
    SUBSETS,
    ReIDItem,
    ReIDSplits,
    in_order,
    read_folders,
)
from .reid.network import PersonClassifier, ReIDNetwork
from .reid.pooling import AveragePooling, TokenPooling, build_pooling
from .sample_data.walkers import make_walkers
from .utils.distributed import is_distributed, on_main_process
from .utils.scripts import run_as_main, script_main
from .weights import load_checkpoint, safe_unpickling

PACKAGES = ('torchreid', 'torchreid.reid', 'pyppbox_torchreid')
# How torchreid's own folders inside that of a data set are called.
INNER = {'market1501': ('Market-1501-v15.09.15',), 'dukemtmcreid': ('DukeMTMC-reID',)}
MSMT17_TRAINING = ('train', 'train+val')
MSMT17_VERSIONS = {'V1': 'MSMT17_V1', 'V2': 'MSMT17_V2'}
# What its data set classes raise, none of which says more than a word.
READ_ERRORS = (
    RuntimeError, AssertionError, OSError, ValueError, LookupError, AttributeError, ImportError,
)  # fmt: skip


def installed_package() -> str:
    """The name of the first package of :data:`PACKAGES` that has models and data sets.

    Raises:
        ConfigError: None is installed, or something that it needs is not.
    """
    for name in PACKAGES:
        try:
            if find_spec(f'{name}.models') and find_spec(f'{name}.data'):
                return name
        except ModuleNotFoundError as error:
            if error.name not in PACKAGES:
                raise _missing(error) from error
    raise ConfigError("torchreid is not installed: pip install 'effvit-mm[reid]' brings it")


def _missing(error: ModuleNotFoundError) -> ConfigError:
    return ConfigError(
        f'torchreid needs {error.name}, which its package does not ask for: '
        "pip install 'effvit-mm[reid]' brings what it needs"
    )


def import_torchreid(name: str) -> ModuleType:
    """A submodule of whichever torchreid there is: ``'models'``, ``'data'``, ``'metrics'`` ...

    Raises:
        ConfigError: None is installed, or something that it needs is not.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of Cython, that is not there, and of old NumPy names
        try:
            return import_module(f'{installed_package()}.{name}')
        except ModuleNotFoundError as error:
            raise _missing(error) from error


# Our models for torchreid ---------------------------------------------------------------------


class TorchreidModel(ReIDNetwork):
    """The re-ID network as torchreid's engines call it: what it returns depends on the mode.

    In training logits ``(B, num_classes)``, with ``loss='triplet'`` and the features before the
    BNNeck beside them; in evaluation the features behind it, ``(B, D)``. State dicts are those of
    :class:`ReIDNetwork`.

    Args:
        backbone: Its last map, or its vectors, are pooled.
        pooling: How.
        num_classes: Persons to train on; 1 for no classifier.
        loss: ``'softmax'`` or ``'triplet'``.
    """

    def __init__(
        self, backbone: nn.Module, pooling: nn.Module, num_classes: int, loss: str = 'softmax'
    ) -> None:
        if loss not in ('softmax', 'triplet'):
            raise ConfigError(f"loss={loss!r}: torchreid has 'softmax' and 'triplet'")
        classifier = partial(PersonClassifier, num_classes=num_classes)
        super().__init__(backbone, pooling, classifier if num_classes > 1 else None)
        self.loss = loss

    @property
    def feature_dim(self) -> int:
        """Length D of a feature, as torchreid's own models call it."""
        return self.num_features

    def forward(self, inputs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        pooled = self.pooled(inputs)
        features = self.neck(pooled)
        if not self.training:
            return features
        if self.classifier is None:
            raise UserError('this model was built for one class: it gives features alone')
        logits = self.classifier(features)
        return logits if self.loss == 'softmax' else (logits, pooled)


def build_torchreid_model(
    name: str,
    num_classes: int,
    loss: str = 'softmax',
    pretrained: bool | str | Path = False,
    use_gpu: bool = True,
    pooling: Mapping | nn.Module | None = None,
    **kwargs,
) -> TorchreidModel:
    """What torchreid's ``build_model`` gives for the name of a model of ours.

    Args:
        name: One of :func:`effvit_mm.list_models`.
        num_classes: Persons to train on; 1, as torchreid's ``FeatureExtractor`` has it, for none.
        loss: ``'softmax'`` or ``'triplet'``.
        pretrained: A checkpoint (file or http(s) address) of re-identification or classification,
            ours or published, or False.
        use_gpu: Not used; the engines move models themselves.
        pooling: ``dict(type='GeMPooling', p=3)`` or a module; by default class tokens are joined
            and maps averaged.
        **kwargs: Further arguments of the backbone.

    Raises:
        ConfigError: ``pretrained=True``: there are no weights to download; an unknown argument.
        CheckpointError: Nothing in the checkpoint fits.
    """
    if pretrained is True:
        raise ConfigError(
            f'pretrained=True: there are no weights of {name} to download. Give pretrained=False '
            "to start from noise (model.pretrained False for torchreid's scripts), or the path of "
            'a checkpoint'
        )
    family, preset = find_model(name)
    refuse_unknown(name, kwargs, backbone_arguments(family))
    backbone = family.backbone(**{**preset, **family.classifier, **kwargs})
    if pooling is None:
        tokens = family.classifier.get('out_type') == 'cls_token'
        pooling = TokenPooling() if tokens else AveragePooling()
    elif isinstance(pooling, Mapping):
        pooling = build_pooling(pooling)
    model = TorchreidModel(backbone, pooling, num_classes, loss)
    if pretrained:
        print(load_checkpoint(model, pretrained))
    return model


def register_torchreid() -> str:
    """Put every model of ours into torchreid's factory, and ``walkers`` beside its data sets.

    May be called again. ``torchreid.models.build_model('pslt_tiny', num_classes=751)``,
    ``ImageSoftmaxEngine``, ``ImageTripletEngine``, ``FeatureExtractor`` and torchreid's scripts
    work with them. See docs/torchreid.md.

    Returns:
        The package that they were registered in.

    Raises:
        ConfigError: torchreid is not installed.
    """
    factory = vars(import_torchreid('models'))['__model_factory']
    for name in list_models():
        factory[name] = partial(build_torchreid_model, name)
    _register_dataset('walkers', {'folder': 'walkers', 'make': make_walkers})
    return installed_package()


def register_folder(name: str, folder: str | Path, **options) -> None:
    """Make a folder of named pictures one of torchreid's image data sets.

    Args:
        name: To be given as ``sources`` or ``targets`` of ``ImageDataManager``.
        folder: Where it is; a relative one is below the data manager's ``root``.
        **options: ``pattern``, ``folders`` and ``allow_shared_ids`` of
            :func:`effvit_mm.reid.names.read_folders`.

    Raises:
        ConfigError: torchreid has a data set of this name.
    """
    _register_dataset(name, {'folder': str(folder), **options})


def _register_dataset(name: str, options: dict) -> None:
    classes = image_datasets()
    if name in classes and getattr(classes[name], 'effvit_mm_options', None) != options:
        raise ConfigError(f'name={name!r}: torchreid has a data set of this name already')
    if name not in classes:
        classes[name] = _dataset_class(name, options)


def _dataset_class(name: str, options: dict) -> type:
    """A data set class of torchreid's over a folder of named pictures."""
    reading = {k: v for k, v in options.items() if k not in ('folder', 'make')}

    class Pictures(import_torchreid('data.datasets.dataset').ImageDataset):
        effvit_mm_options = options

        def __init__(self, root: str = '', **kwargs) -> None:
            place = Path(root).expanduser() / options['folder']
            if 'make' in options:
                options['make'](place)
            splits = read_folders(place, **reading)
            for remark in splits.remarks:
                print(remark)
            # Not to be trained on if all is combined: who is in Market-1501's gallery alone.
            market = reading.get('pattern') is None
            searched = any(item.pid == int(DISTRACTOR) for item in splits.query)
            self._junk_pids = [int(DISTRACTOR)] if market and not searched else []
            super().__init__(*(list(map(tuple, getattr(splits, s))) for s in SUBSETS), **kwargs)

    Pictures.__name__ = Pictures.__qualname__ = name
    return Pictures


# torchreid's data sets for us -----------------------------------------------------------------


def image_datasets() -> dict[str, type]:
    """torchreid's image data set classes by name."""
    return vars(import_torchreid('data.datasets'))['__image_datasets']


def read_dataset(name: str, data_root: str | Path, **options) -> ReIDSplits:
    """The pictures of one of torchreid's image data sets. Nothing is ever downloaded.

    Args:
        name: ``'market1501'``, ``'dukemtmcreid'``, ``'cuhk03'``, ``'msmt17'`` ...
        data_root: torchreid's ``root``, or the data set's own folder in it.
        **options: Of the class: ``cuhk03_labeled``, ``cuhk03_classic_split``, ``split_id`` ...; of
            MSMT17 ``version='V1'`` or ``'V2'``, and ``train='train'`` or ``'train+val'``.

    Raises:
        ConfigError: There is no such data set, or it has no such option.
        DataError: The folder is missing, or torchreid cannot read what is in it.
    """
    classes = image_datasets()
    if name not in classes:
        raise ConfigError(
            f"source={name!r}: there are 'folder', 'walkers' and torchreid's {', '.join(classes)}"
        )
    cls = classes[name]
    _check_options(name, cls, options)
    root, inside = _place(name, cls, Path(data_root).expanduser().absolute())
    persons = _named_persons(root / inside, INNER[name]) if name in INNER else {}
    if name == 'msmt17':
        dataset = partial(_read_msmt17, cls, root / inside, data_root, **options)
    else:
        dataset = partial(_without_download(cls, inside), str(root), verbose=False, **options)
    # The classes may unpack a set when they are used first: one process does that.
    if is_distributed():
        on_main_process(lambda: _read(dataset, name, data_root))
    return _splits(_read(dataset, name, data_root), f'{name} in {data_root}', persons)


def _check_options(name: str, cls: type, options: Mapping) -> None:
    """torchreid's classes take any argument, and do not use those that are misspelt."""
    allowed = set(inspect.signature(cls.__init__).parameters) - {'self', 'root', 'kwargs'}
    allowed = {'version', 'train'} if name == 'msmt17' else allowed
    wrong = sorted(set(options) - allowed)
    if wrong:
        raise ConfigError(
            f'source_args.{wrong[0]}={options[wrong[0]]!r}: {name} has no such option; it has '
            f'{", ".join(sorted(allowed)) or "none"}'
        )


def _place(name: str, cls: type, root: Path) -> tuple[Path, str]:
    """torchreid's root, and the data set's folder below it."""
    folder = getattr(cls, 'dataset_dir', None) or name
    if (root / folder).is_dir():
        return root, folder
    if root.name in (*INNER.get(name, ()), *MSMT17_VERSIONS.values()):
        root = root.parent
    if not root.is_dir() or not any(root.iterdir()):
        raise DataError(
            f'{name}: neither {root / folder} nor {root} has a data set; torchreid describes how '
            'its folders are laid out, and nothing is downloaded here'
        )
    return root, ''


def _without_download(cls: type, folder: str) -> type:
    def refuse(self, dataset_dir: str, dataset_url: str | None) -> None:
        """In place of torchreid's download, which begins where a folder does not exist."""
        if not Path(dataset_dir).is_dir():
            raise DataError(f'{cls.__name__}: {dataset_dir} does not exist')

    return type(cls.__name__, (cls,), {'dataset_dir': folder, 'download_dataset': refuse})


def _named_persons(folder: Path, inner: Sequence[str]) -> dict[str, str]:
    """Training persons by file, as the names tell them.

    torchreid's classes number persons in the order of a hash table, and stumble over a name that
    they cannot parse without telling which.
    """
    folders = [folder, *(folder / name for name in inner)]
    place = next((p for p in folders if (p / MARKET_FOLDERS['train']).is_dir()), folders[-1])
    splits = read_folders(place, min_cameras=1)
    return {item.img_path: splits.persons[item.pid] for item in splits.train}


def _read(dataset: partial, name: str, data_root: str | Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return dataset()
    except UserError:
        raise
    except READ_ERRORS as error:
        raise DataError(f'{name} in {data_root}: torchreid cannot read it: {error}') from error


class _Lists(NamedTuple):
    """Pictures of a data set as torchreid's classes hold them: tuples of path, person, camera."""

    train: list[tuple]
    query: list[tuple]
    gallery: list[tuple]


def _read_msmt17(
    cls: type,
    folder: Path,
    given: str | Path,
    version: str | None = None,
    train: str = 'train',
) -> _Lists:
    """MSMT17 of one version; torchreid's class would take V1 where both are there.

    It has images of the training's persons for validation: papers train on both, torchreid's class
    does so only together with the images of the test.
    """
    if train not in MSMT17_TRAINING:
        raise ConfigError(
            f'source_args.train={train!r}: MSMT17 has {" and ".join(map(repr, MSMT17_TRAINING))}'
        )
    if version not in (None, *MSMT17_VERSIONS):
        raise ConfigError(f"source_args.version={version!r}: MSMT17 has 'V1' and 'V2'")
    name = Path(given).name
    wanted = MSMT17_VERSIONS.get(version or '')
    choices = [wanted] if wanted else [v for v in MSMT17_VERSIONS.values() if v == name]
    choices = choices or [v for v in MSMT17_VERSIONS.values() if (folder / v).is_dir()]
    if len(choices) != 1:
        number = 'both' if choices else 'neither'
        raise DataError(
            f'msmt17: {folder} has {number} of {" and ".join(MSMT17_VERSIONS.values())}'
            + ("; say which: source_args=dict(version='V2')" if choices else '')
        )
    main = folder / choices[0]
    layout = vars(sys.modules[cls.__module__])['VERSION_DICT'][choices[0]]
    reader = cls.__new__(cls)  # its method reads a list file without the rest
    place, test = main / layout['train_dir'], main / layout['test_dir']
    pictures = []
    for part in train.split('+'):
        pictures += reader.process_dir(str(place), str(main / f'list_{part}.txt'))
    return _Lists(
        pictures,
        reader.process_dir(str(test), str(main / 'list_query.txt')),
        reader.process_dir(str(test), str(main / 'list_gallery.txt')),
    )


def _splits(dataset: object, name: str, persons: Mapping[str, str]) -> ReIDSplits:
    """Sorted by file: torchreid lists folders in the order of the disk, which is none.

    Args:
        dataset: Has the three lists.
        name: For messages.
        persons: Who is in a training file, where that is known.
    """
    items = {s: sorted(ReIDItem(*item[:3]) for item in getattr(dataset, s)) for s in SUBSETS}
    for subset, pictures in items.items():
        if not pictures:
            raise DataError(f'{name}: the {subset} set is empty')
    called = [persons.get(item.img_path, str(item.pid)) for item in items['train']]
    names = in_order(called)
    labels = {person: label for label, person in enumerate(names)}
    items['train'] = [
        item._replace(pid=labels[person])
        for item, person in zip(items['train'], called, strict=True)
    ]
    last = max(item.camid for pictures in items.values() for item in pictures)
    cameras = tuple(str(camid + 1) for camid in range(last + 1))
    return ReIDSplits(name=name, persons=tuple(names), cameras=cameras, **items)


# torchreid's scripts ----------------------------------------------------------------------------


def run_script(script: str, arguments: Sequence[str]) -> None:
    """Run a script of torchreid's as ``python script arguments`` would, after registration.

    Since torch 2.6 its ``resume_from_checkpoint`` cannot read what its ``save_checkpoint`` wrote, a
    NumPy number stands in it: here such files are read, and still as data alone.
    """
    register_torchreid()
    with safe_unpickling():
        run_as_main(script, arguments)


__all__ = [
    'TorchreidModel',
    'build_torchreid_model',
    'image_datasets',
    'import_torchreid',
    'installed_package',
    'read_dataset',
    'register_folder',
    'register_torchreid',
    'run_script',
]

if __name__ == '__main__':
    from . import torchreid as canonical

    script_main('effvit_mm.torchreid', canonical.run_script)
