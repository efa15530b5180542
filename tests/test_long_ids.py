"""Ids of persons with more digits than a label can hold are names like others."""

from __future__ import annotations

import numpy as np
from reid_folders import MARKET, make_market, put

from effvit_mm.reid.names import label_files, read_folders

LONG = '9' * 20


def test_a_folder_with_a_long_id(tmp_path):
    root = make_market(tmp_path)
    put(root / MARKET['query'], f'{LONG}_c1s1_000000_00.jpg')
    put(root / MARKET['gallery'], f'{LONG}_c2s1_000000_00.jpg')
    splits = read_folders(str(root))
    known = {item.pid for item in (*splits.query, *splits.gallery)}
    assert len(known) == 3 and max(known) < 2**63
    long = {i.pid for i in (*splits.query, *splits.gallery) if LONG in i.img_path}
    assert len(long) == 1


def test_files_with_long_ids():
    names = [f'{LONG}_c1s1_0.jpg', f'{LONG}_c{LONG}s1_0.jpg', '0002_c2s1_0.jpg']
    labels = label_files(names)
    assert labels.pids.dtype == np.int64
    assert labels.pids[0] == labels.pids[1] != labels.pids[2]
    assert len(set(labels.camids.tolist())) == 3
