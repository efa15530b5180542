# One's own persons: data_root/{bounding_box_train,query,bounding_box_test}/*.jpg, named as in
# Market-1501 (0002_c1s1_000451_03.jpg: person 2, camera 1).
# Where they are: `--cfg-options data_root=/path`, or the environment variable REID_FOLDER_ROOT.
# Other names and folders: in each loader's dataset
# pattern=r'(?P<pid>[^/]+)/cam(?P<cam>\d+)_', folders=dict(train='a', query='b', gallery='c').
# Persons in training and test end the run, as they do not test anything; unless
# `allow_shared_ids=True`. Images of query and gallery are all read before the training starts.
dataset_type = 'effvit_mm.ReIDDataset'
data_root = '{{$REID_FOLDER_ROOT:data/reid}}'

# The strong baseline's: 256 x 128, shifted by up to 10 pixels, mirrored, a part erased.
meta_keys = ('img_path', 'pid', 'camid', 'dsetid', 'subset', 'sample_idx', 'ori_shape', 'img_shape')
train_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='Resize', scale=(128, 256)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomCrop', crop_size=(256, 128), padding=10),
    dict(
        type='RandomErasing',
        erase_prob=0.5,
        min_area_ratio=0.02,
        max_area_ratio=0.4,
        fill_color=[103.53, 116.28, 123.675],
    ),
    dict(type='PackInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='Resize', scale=(128, 256)),
    dict(type='PackInputs', meta_keys=meta_keys),
]

# 16 persons with 4 images each; batch_size is their product.
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(
        type=dataset_type,
        source='folder',
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
        skip_corrupt=False,
    ),
    sampler=dict(type='effvit_mm.PKSampler', num_persons=16, num_instances=4),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(
        type=dataset_type,
        source='folder',
        data_root=data_root,
        split='test',
        pipeline=test_pipeline,
        skip_corrupt=False,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='effvit_mm.ReIDMetric')

test_dataloader = val_dataloader
test_evaluator = val_evaluator
