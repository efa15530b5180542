"""The hook of linear-angular attention's training-time branch."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub

import effvit_mm
from effvit_mm.errors import ConfigError
from effvit_mm.openmm.engine.castling_hook import MaskedSoftmaxHook


class Run:
    """What the hook sees of a runner, and a training without an optimizer."""

    def __init__(self, hook, epochs=4, epoch=0):
        torch.manual_seed(0)
        self.model = effvit_mm.create_model('castling_levit_128s', num_classes=2).train()
        self.hook, self.max_epochs, self.epoch = hook, epochs, epoch
        self.message_hub = MessageHub('castling')
        self.logger = logging.getLogger('castling')
        hook.before_train(self)
        self.layers = list(hook.layers.values())

    def train_epoch(self):
        self.hook.before_train_epoch(self)
        with torch.no_grad():
            self.model(torch.randn(2, 3, 96, 96))
        self.hook.after_train_iter(self, 0)
        self.hook.after_train_epoch(self)
        self.epoch += 1


def test_density_is_logged_by_layer():
    run = Run(MaskedSoftmaxHook())
    run.train_epoch()
    logged = {k for k in run.message_hub.log_scalars if k.startswith('density/backbone.stages.')}
    assert len(logged) == len(run.layers) > 0
    for name, layer in run.hook.layers.items():
        assert run.message_hub.log_scalars[f'density/{name}'].current() == float(layer.density)
    assert all(layer.threshold == 0.02 for layer in run.layers)


def test_threshold_rises_and_density_falls():
    run = Run(MaskedSoftmaxHook(final_threshold=0.5))
    thresholds, densities = [], []
    for _ in range(4):
        run.train_epoch()
        thresholds.append(run.layers[0].threshold)
        densities.append(float(run.layers[0].density))
    assert thresholds == pytest.approx([0.02, 0.18, 0.34, 0.5])
    assert densities[-1] < densities[0]


def test_branch_is_dropped_at_its_epoch():
    run = Run(MaskedSoftmaxHook(final_threshold=0.1, drop_epoch=2))
    for epoch in range(4):
        run.train_epoch()
        assert all(layer.masked_softmax == (epoch < 2) for layer in run.layers)
        assert all(not layer.takes_bias for layer in run.layers) or epoch < 2


def test_resumed_training_has_the_threshold_of_its_epoch():
    run = Run(MaskedSoftmaxHook(final_threshold=0.5), epoch=3)
    run.train_epoch()
    assert run.layers[0].threshold == pytest.approx(0.5)


def test_model_without_the_branch_is_refused():
    model = effvit_mm.create_model('levit_128s', num_classes=2)
    with pytest.raises(ConfigError, match='no LinearAngularAttention'):
        MaskedSoftmaxHook().before_train(SimpleNamespace(model=model))


@pytest.mark.parametrize('kwargs', [{'final_threshold': 2}, {'drop_epoch': -1}], ids=str)
def test_arguments_are_checked(kwargs):
    with pytest.raises(ConfigError, match=next(iter(kwargs))):
        MaskedSoftmaxHook(**kwargs)
