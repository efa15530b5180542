"""Checkpoints that were written before the package's modules moved load whole and give the same.

``tests/data/old_checkpoints`` was written by the code of commit c28a68e: a small network of each
family, one of re-identification and a deployed one, and in ``outputs.npz`` two images and what each
network made of them. Its recipe, for a model of :data:`MODELS`::

    images = 3 * RandomState(1).standard_normal((2, 3, 64, 64)).cumsum(2).cumsum(3) / 64  # float16
    model = effvit_mm.create_model(name, num_classes=5, **arguments)
    # Each tensor of the state dict, in its order, by one generator with seed 0: matrices randn over
    # the root of the inputs; vectors 0.2 * |randn| + 0.7 (weight, running_var) or 0.1 * randn.
    # One training pass of the images with a momentum of 1 for batch norms; running_var 0.1 or more;
    # all rounded to float16.
    save(model.eval().state_dict() in float16, model(images) in float32)

PSLT's is as the trainer wrote it, with mmengine's log history, and again after
``switch_to_deploy()``, rounded once more.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import effvit_mm
from effvit_mm.registry import MODELS as REGISTRY
from effvit_mm.weights import load_checkpoint

FOLDER = Path(__file__).parent / 'data' / 'old_checkpoints'
VIT = {'embed_dims': 24, 'depths': (1, 1, 1, 1), 'num_heads': 3, 'mlp_ratio': 2}
PSLT = {'embed_dims': 3, 'depths': (1, 1, 1, 1), 'num_heads': (2, 4)}
CROSSVIT = {
    'embed_dims': (12, 24),
    'depth': 1,
    'num_heads': 3,
    'mlp_ratio': 2,
    'patch_embed': 'conv',
    'img_size': 64,
}
LEVIT = {'embed_dims': (16, 24, 32), 'num_heads': (2, 3, 2), 'depths': (1, 1, 1), 'key_dim': 8}
MVITV2 = {'embed_dims': 8, 'num_heads': 1, 'depths': (1, 1, 1, 1)}
MODELS = {
    'pslt_tiny': {'arch': PSLT},
    'crossvit_9': {'arch': CROSSVIT},
    'deit_tiny': {'arch': VIT, 'img_size': 64},
    'deit_tiny_distilled': {'arch': VIT, 'img_size': 64},
    'castling_deit_tiny': {'arch': VIT, 'img_size': 64},
    'lightweight_vit_tiny': {'arch': VIT, 'img_size': 64, 'sampled_blocks': (2, 3)},
    'levit_128s': {'arch': LEVIT, 'img_size': 64},
    'castling_levit_128s': {'arch': LEVIT, 'img_size': 64},
    'mvitv2_tiny': {'arch': MVITV2, 'img_size': 64},
    'castling_mvitv2_tiny': {'arch': MVITV2, 'img_size': 64},
}


@torch.no_grad()
def check(model, name):
    """Everything in the file is in the model and the other way round; the outputs are the same."""
    (file,) = FOLDER.glob(f'{name}.[ps]*')
    report = load_checkpoint(model.eval(), file, require='exact')
    assert len(report.loaded) == len(model.state_dict()) > 50
    assert not report.notes  # nothing had to be renamed or resized
    with np.load(FOLDER / 'outputs.npz') as outputs:
        images, want = (torch.from_numpy(outputs[key]).float() for key in ('images', name))
    assert (want[0] - want[1]).abs().max() > 0.2 * want.abs().max()  # it tells images apart
    assert (model(images) - want).abs().max() <= 1e-4 * want.abs().max()


@pytest.mark.parametrize('name', MODELS)
def test_a_classifier(name):
    check(effvit_mm.create_model(name, num_classes=5, **MODELS[name]), name)


def test_a_deployed_network():
    model = effvit_mm.create_model('pslt_tiny', num_classes=5, **MODELS['pslt_tiny'])
    check(model.eval().switch_to_deploy(), 'pslt_tiny_deployed')


def test_a_re_identification_model():
    backbone = {'type': 'effvit_mm.PSLT', 'arch': PSLT}
    classifier = {'type': 'effvit_mm.SoftmaxLoss'}
    config = {'backbone': backbone, 'num_classes': 5, 'classifier': classifier}
    check(REGISTRY.build({'type': 'effvit_mm.ReIDModel', **config}), 'reid')
