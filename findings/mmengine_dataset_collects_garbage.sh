#!/usr/bin/env bash
# onedl-mmengine 0.10.12, torch 2.13.0, Python 3.11, 2026-11-29.
#
# Each construction of a BaseDataset with serialize_data=True, the default, runs a full collection of
# garbage (gc.collect() behind the pickling of its list), however small the set. A collection visits
# every container that the process holds, so the cost is that of the process, not of the set: with
# two million small lists alive a set of four images takes hundreds of times as long to build as
# without. Where many sets are built (a test suite, a search over configs) it is most of the time:
# there a suite of 5,300 tests went from 0.2 to 0.02 s a drawn example. gc.freeze() after the imports
# takes what is there out of every later collection.
#
# Seen (full collections while ten sets of four images are built; time with two million lists alive
# over the time after gc.freeze()):
#   serialize_data=True: 10 collections
#   serialize_data=False: 0 collections
#   alive over frozen: more than 20 times
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 onedl-mmengine==0.10.12 numpy==2.3.5 >/dev/null 2>&1
cd "$work"
cat > look.py <<'PY'
import gc
import json
import statistics
import time

from mmengine.dataset import BaseDataset

content = {
    'metainfo': {'classes': ['a']},
    'data_list': [{'img_path': f'{n}.jpg', 'gt_label': 0} for n in range(4)],
}
with open('list.json', 'w') as file:
    json.dump(content, file)


def build(**options):
    start = time.perf_counter()
    assert len(BaseDataset(ann_file='list.json', **options)) == 4
    return time.perf_counter() - start


full = []
gc.callbacks.append(
    lambda phase, info: full.append(1) if phase == 'start' and info['generation'] == 2 else None
)
build()
for serialize in (True, False):
    full.clear()
    for _ in range(10):
        build(serialize_data=serialize)
    print(f'serialize_data={serialize}: {len(full)} collections')
alive = [[n] for n in range(2_000_000)]
slow = statistics.median(build() for _ in range(5))
gc.freeze()
quick = statistics.median(build() for _ in range(5))
print('alive over frozen:', 'more than 20 times' if slow > 20 * quick else f'{slow / quick:.1f}')
PY
venv/bin/python look.py | tee seen
diff seen - <<'SEEN'
serialize_data=True: 10 collections
serialize_data=False: 0 collections
alive over frozen: more than 20 times
SEEN
