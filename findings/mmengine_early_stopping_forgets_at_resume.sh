#!/usr/bin/env bash
# onedl-mmengine 0.10.12, torch 2.13.0, Python 3.11, 2026-11-30.
#
# EarlyStoppingHook keeps its best figure and how long it has waited in attributes of the hook, and a
# checkpoint holds nothing of hooks: a resumed run begins to wait anew, and what it first sees is its
# best. A run that is interrupted goes on for up to `patience` validations longer than one that is
# not, with figures below the best it had, and one that is interrupted often enough never stops.
#
# Seen (a figure that is best in epoch 2, patience 3, 12 epochs; interrupted after epochs 3, 5, 7, 9):
#   undisturbed: ends after epoch 5
#   resumed after epoch 4: ends after epoch 8
#   interrupted every second epoch: ends after epoch 12
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 onedl-mmengine==0.10.12 numpy==2.2.6 opencv-python-headless==4.12.0.88 >/dev/null 2>&1
cd "$work"
cat > look.py <<'PY'
import tempfile

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

EPOCHS = 12


class Numbers(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {'inputs': torch.ones(1)}


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        output = self.layer(torch.stack(list(inputs)))
        return {'loss': output.sum()} if mode == 'loss' else [output]


class Peak(BaseMetric):
    """Best in epoch 2, and lower each time after it."""

    epoch = 0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {'score': 1 - 0.1 * abs(self.epoch - 2)}


class Tell(Hook):
    def __init__(self, metric):
        self.metric = metric

    def before_val(self, runner):
        self.metric.epoch = runner.epoch


def train(folder, until, resume=False):
    """Train; returns after which epoch it ended: by itself or because it was interrupted."""
    metric = Peak()
    loader = {'batch_size': 2, 'num_workers': 0, 'dataset': Numbers(), 'collate_fn': {'type': 'pseudo_collate'}}

    class Interrupt(Hook):
        priority = 'LOWEST'

        def before_train_epoch(self, runner):
            if runner.epoch >= until:
                raise KeyboardInterrupt

    runner = Runner(
        Model(), folder, train_dataloader={**loader, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}},
        val_dataloader={**loader, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}},
        train_cfg={'by_epoch': True, 'max_epochs': EPOCHS}, val_cfg={}, val_evaluator=Evaluator(metric),
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.0}}, resume=resume, log_level='ERROR',
        experiment_name=f'{folder}-{until}-{resume}',
        custom_hooks=[Tell(metric), EarlyStoppingHook('score', rule='greater', patience=3), Interrupt()],
    )
    try:
        runner.train()
    except KeyboardInterrupt:
        pass
    return runner.epoch


with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two, tempfile.TemporaryDirectory() as three:
    print('undisturbed: ends after epoch', train(one, EPOCHS))
    assert train(two, 4) == 4
    print('resumed after epoch 4: ends after epoch', train(two, EPOCHS, resume=True))
    ended, until = 0, 2
    while ended == until - 2 and until <= EPOCHS:
        ended, until = train(three, until, resume=until > 2), until + 2
    print('interrupted every second epoch: ends after epoch', ended)
PY
venv/bin/python look.py 2>log | grep ends | tee seen || { tail -5 log; exit 1; }
diff seen - <<'SEEN'
undisturbed: ends after epoch 5
resumed after epoch 4: ends after epoch 8
interrupted every second epoch: ends after epoch 12
SEEN
