#!/usr/bin/env bash
# onedl-mmengine 0.10.12, torch 2.13.0, Python 3.11, 2026-11-30.
#
# The figures of a distributed test (`timestamp.json`, which scripts read afterwards) are written by
# every process, each into the same file, plainly opened for writing: LoggerHook.after_test_epoch has
# no master_only. Ranks end a test within milliseconds of each other, so the file is now and then read
# empty, or left as two texts one over the other (rank 1's figures of time have other digits); a hook
# of rank 0 that reads it behind LoggerHook meets a JSONDecodeError in some of a hundred runs. Logs and
# checkpoints, written by rank 0 alone, give no reason to expect it.
#
# Seen (two processes, gloo; who opens the file for writing, and what rank 0's file is when rank 1,
# half a second late, has opened it):
#   rank 0 opens the figures for writing: 1 times
#   rank 1 opens the figures for writing: 1 times
#   bytes of a whole file at the moment rank 1 has opened it: 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 onedl-mmengine==0.10.12 numpy==2.2.6 opencv-python-headless==4.12.0.88 >/dev/null 2>&1
cd "$work"
cat > look.py <<'PY'
import os
import sys
import time

import torch
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

opened, emptied = [], []


def watch(event, arguments):
    if event == 'open' and str(arguments[0]).endswith('.json') and 'w' in str(arguments[1]):
        path = arguments[0]
        opened.append(path)


class Numbers(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {'inputs': torch.ones(1)}


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        return [self.layer(torch.stack(list(inputs)))]


class Score(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {'score': 1.0}


class Late(Hook):
    """Rank 1 comes to LoggerHook when rank 0's file is whole."""

    priority = 'VERY_HIGH'

    def after_test_epoch(self, runner, metrics=None):
        if get_rank() == 1:
            time.sleep(0.5)


real = LoggerHook.after_test_epoch


def looking(self, runner, metrics=None):
    path = os.path.join(runner.log_dir, self.json_log_path)
    if get_rank() == 1:
        whole = os.path.getsize(path)
        assert whole > 10

        def size(event, arguments):
            if event == 'open' and arguments[0] == path:
                sys.setprofile(at_return)

        def at_return(frame, event, what):
            if event == 'c_return' and not emptied:
                emptied.append(os.path.getsize(path))
                sys.setprofile(None)

        sys.addaudithook(size)
    real(self, runner, metrics)


LoggerHook.after_test_epoch = looking
sys.addaudithook(watch)
torch.distributed.init_process_group('gloo')  # mmengine's own launchers set a CUDA device
loader = {
    'batch_size': 2, 'num_workers': 0, 'dataset': Numbers(), 'collate_fn': {'type': 'pseudo_collate'},
    'sampler': {'type': 'DefaultSampler', 'shuffle': False},
}
Runner(
    Model(), sys.argv[1], test_dataloader=loader, test_cfg={}, test_evaluator=Evaluator(Score()),
    log_level='ERROR', custom_hooks=[Late()],
).test()
time.sleep(1 - get_rank())  # rank 1's line comes second
rank = get_rank()
if rank:
    time.sleep(1)
print(f'rank {rank} opens the figures for writing: {len(opened)} times', flush=True)
if emptied:
    print('bytes of a whole file at the moment rank 1 has opened it:', emptied[0], flush=True)
PY
CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 venv/bin/python -m torch.distributed.run --standalone \
    --nproc_per_node=2 look.py "$work/out" 2>log | grep -E 'opens|bytes' | tee seen || { tail -5 log; exit 1; }
diff seen - <<'SEEN'
rank 0 opens the figures for writing: 1 times
rank 1 opens the figures for writing: 1 times
bytes of a whole file at the moment rank 1 has opened it: 0
SEEN
