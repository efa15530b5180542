"""Part ``files``: mutated data files train two iterations, are read, or are refused in one line."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import coco_sets
import numpy as np
import torch
import trainer
from people import make_people, write_people_config
from programs import load_tool
from safetensors.torch import save_file
from yolo_sets import make_yolo

import effvit_mm
from effvit_mm.openmm import cli
from effvit_mm.reid.features import ReIDFeatures, load_features, save_features
from effvit_mm.reid.search import Gallery
from effvit_mm.weights import load_checkpoint

from .changes import (
    Changed,
    change_bytes,
    change_checkpoint,
    change_json,
    change_name,
    change_one,
    change_parquet,
    change_safetensors,
    change_text,
    change_zip,
)
from .configs import train
from .trials import LIMIT_BYTES, Counter, Outcome, Trial, clear, error_lines, fork, import_all


class Kind(NamedTuple):
    """A kind of data files.

    Attributes:
        make: Writes a set into the current folder.
        change: Changes it; gives what was done and the names that a refusal may give.
        use: Does with it what the product is for; gives the exit code.
        early: A fault is to be told before the first iteration.
    """

    make: Callable[[], None]
    change: Callable[[random.Random], Changed]
    use: Callable[[Counter], int]
    early: bool = True


# Making ----------------------------------------------------------------------------------------


def make_coco() -> None:
    coco_sets.make_config(Path().absolute())


VOC = """
_base_ = './small.py'
train_dataloader = dict(batch_size=2, dataset=dict(
    _delete_=True, type='VOCDataset', data_root='VOCdevkit', ann_file='VOC2007/list.txt',
    data_prefix=dict(sub_data_root='VOC2007/'), pipeline=_base_.pipeline,
    metainfo=dict(classes=('red', 'white', 'platelet')),
))
"""
OBJECT = (
    '<object><name>{}</name><difficult>0</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>'
    '<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>'
)


def make_voc() -> None:
    data = coco_sets.make_coco(Path('coco'), images=4, splits=())
    root = Path('VOCdevkit/VOC2007')
    shutil.move('coco/images', root / 'JPEGImages')
    for path in (root / 'JPEGImages').iterdir():
        path.rename(path.with_suffix('.jpg'))
    (root / 'Annotations').mkdir()
    names = {category['id']: category['name'] for category in data['categories']}
    for image in data['images']:
        objects = ''.join(
            OBJECT.format(names[a['category_id']], x, y, x + w, y + h)
            for a in data['annotations']
            for x, y, w, h in [a['bbox']]
            if a['image_id'] == image['id']
        )
        size = f'<width>{image["width"]}</width><height>{image["height"]}</height>'
        text = f'<annotation><size>{size}<depth>3</depth></size>{objects}</annotation>'
        (root / 'Annotations' / f'{image["id"]}.xml').write_text(text)
    (root / 'list.txt').write_text(''.join(f'{image["id"]}\n' for image in data['images']))
    coco_sets.write_config(Path('small.py'), Path('coco').absolute())
    Path('detector.py').write_text(VOC)


YOLO = """
_base_ = './small.py'
train_dataloader = dict(batch_size=2, dataset=dict(
    _delete_=True, type='effvit_mm.YoloFolder', data_root='yolo', ann_file='data.yaml#train',
    classes_from='data.yaml#train', data_prefix=dict(img=''), pipeline=_base_.pipeline,
))
"""


def make_yolo_set() -> None:
    make_yolo(Path('yolo'), images=4)
    coco_sets.write_config(Path('small.py'), Path('yolo').absolute())
    Path('detector.py').write_text(YOLO)


def make_images() -> None:
    data = trainer.make_folder(Path('data').absolute(), train=4, val=1)
    for number, path in enumerate(sorted(data.glob('train/*/*.png'))):
        if number % 2:
            image = trainer.cv2.imread(str(path))
            trainer.cv2.imwrite(str(path.with_suffix('.jpg')), image)
            path.unlink()
    trainer.write_config(Path('detector.py'), data, 'train_dataloader.update(batch_size=6)\n')


def make_persons() -> None:
    write_people_config(Path('detector.py'), make_people(Path('data').absolute(), train=5, test=2))


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    arch = {'embed_dims': 24, 'depths': (1, 1, 1, 1), 'num_heads': 3, 'mlp_ratio': 2}
    return effvit_mm.create_model('deit_tiny', num_classes=3, arch=arch, img_size=32)


def make_checkpoint() -> None:
    torch.save({'state_dict': network().state_dict(), 'meta': {'epoch': 1}}, 'weights.pth')


def make_safetensors() -> None:
    save_file(network().state_dict(), 'weights.safetensors', {'note': 'x'})


def features(count: int) -> ReIDFeatures:
    values = np.random.default_rng(0).normal(size=(count, 8)).astype('f4')
    names = [f'{i}.jpg' for i in range(count)]
    numbers = np.arange(count)
    return ReIDFeatures(values, numbers % 5, numbers % 2, names, 'deit-0', preparation='plain')


def make_features(suffix: str) -> Callable[[], None]:
    return lambda: save_features(features(20), f'persons{suffix}')


def make_gallery(index: str) -> Callable[[], None]:
    def make() -> None:
        gallery = Gallery(8, 'deit-0', index=index, preparation='plain')
        gallery.add(features(20), {'note': list(range(20))})
        gallery.save('people.gallery')

    return make


# Using -----------------------------------------------------------------------------------------


def check_and_train(steps: Counter) -> int:
    """check_dataset ends orderly, with one line at most; then the training."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = load_tool('analysis_tools/check_dataset').main(['detector.py', '--read-images'])
    if code not in (0, 1, 2) or len(error_lines(said.getvalue())) != (code == 2):
        sys.stderr.write(f'check_dataset: {code}: {said.getvalue()}')
        return 90
    trainer.forget_runs()
    return train(Path('detector.py'), steps)


def guarded(work: Callable[[], None]) -> int:
    """As a tool runs it."""
    return cli.run_guarded(lambda args, session: work(), lambda: cli.Parser(prog='x'), [])


def use_weights(name: str) -> Callable[[Counter], int]:
    def use(steps: Counter) -> int:
        return guarded(lambda: load(network(), name))

    return use


def load(model: torch.nn.Module, name: str) -> None:
    load_checkpoint(model, name)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 32, 32))


def use_features(suffix: str) -> Callable[[Counter], int]:
    return lambda steps: guarded(lambda: load_features(f'persons{suffix}').check_finite())


def use_gallery(steps: Counter) -> int:
    def work() -> None:
        gallery = Gallery.load('people.gallery')
        gallery.search(features(3), 5)

    return guarded(work)


# ------------------------------------------------------------------------------------------------


KINDS = {
    'coco': Kind(make_coco, change_one('data/train.json', change_json), check_and_train),
    'voc': Kind(
        make_voc, change_one('VOCdevkit/VOC2007/Annotations/*.xml', change_text), check_and_train
    ),
    'yolo': Kind(make_yolo_set, change_one('yolo/train/labels/*', change_text), check_and_train),
    'yolo names': Kind(make_yolo_set, change_one('yolo/data.yaml', change_text), check_and_train),
    'images': Kind(
        make_images, change_one('data/train/*/*g', change_bytes), check_and_train, early=False
    ),
    're-ID names': Kind(make_persons, change_name, check_and_train),
    'checkpoint': Kind(
        make_checkpoint, change_one('weights.pth', change_checkpoint), use_weights('weights.pth')
    ),
    'safetensors': Kind(
        make_safetensors, change_one('*.safetensors', change_safetensors),
        use_weights('weights.safetensors'),
    ),
    'features npz': Kind(
        make_features('.npz'), change_one('persons.npz', change_zip), use_features('.npz')
    ),
    'features parquet': Kind(
        make_features('.parquet'), change_one('*.parquet', change_parquet), use_features('.parquet')
    ),
    'gallery': Kind(
        make_gallery('exact'), change_one('people.gallery', change_zip), use_gallery
    ),
    'gallery, approximate': Kind(
        make_gallery('approximate'), change_one('people.gallery', change_zip), use_gallery
    ),
}  # fmt: skip


def judge(names: tuple[str, ...], early: bool, outcome: Outcome) -> tuple[str, str]:
    """``'ran'``, ``'refused'`` or the name of a fault; and what was said."""
    lines = outcome.error_lines()
    last = [line for line in outcome.err.splitlines() if line.strip()][-1:]
    said = lines[0] if lines else (last[0] if last else '')
    if outcome.hung:
        return 'hang', said
    if outcome.grown > LIMIT_BYTES:
        return 'memory', f'{outcome.grown / 1e9:.1f} GB'
    if outcome.code not in (0, 2) or outcome.is_traceback():
        return 'traceback', said
    if outcome.code == 0:
        return 'ran', ''
    if len(lines) != 1:
        return 'lines', ' | '.join(outcome.err.splitlines()[-3:])
    if early and outcome.steps:
        return 'late', said
    return ('refused' if any(name in said for name in names) else 'vague'), said


class Part:
    """Trials of mutated data files; a set of each kind is made once, in a child."""

    def __init__(self, folder: Path, seed: int) -> None:
        import_all()
        self.folder, self.seed = folder, seed
        for name, kind in KINDS.items():
            place = self._original(name)
            if not place.exists():
                made = fork(lambda steps, kind=kind: kind.make() or 0, place)
                if made.code:
                    raise RuntimeError(f'{name}: {made.err}')

    def _original(self, name: str) -> Path:
        return self.folder / 'originals' / name.replace(' ', '_')

    def outcome(self, name: str, change: Callable | None) -> tuple[Changed, Outcome]:
        """Use a set of a kind in a child, changed or as it is."""
        folder = clear(self.folder / 'trial')
        shutil.copytree(self._original(name), folder, dirs_exist_ok=True)
        for path in folder.glob('*.py'):  # they hold the folder's name
            text = path.read_text()
            path.write_text(text.replace(str(self._original(name)), str(folder)))
        changed = ('', ())
        if change:
            before = Path.cwd()
            os.chdir(folder)
            try:
                changed = change()
            finally:
                os.chdir(before)
        return changed, fork(KINDS[name].use, folder)

    def __call__(self, index: int) -> Trial:
        draw = random.Random(f'{self.seed}/{index}')
        name = draw.choice(list(KINDS))
        kind = KINDS[name]
        (case, names), outcome = self.outcome(name, lambda: kind.change(draw))
        verdict, said = judge(names, kind.early, outcome)
        text = f'{name}: {case}'
        return Trial(index, self.seed, text, verdict, said, outcome.seconds, outcome.grown)
