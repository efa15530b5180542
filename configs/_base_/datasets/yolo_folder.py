# One's own set in YOLO's layout: data_root/data.yaml, and images/ and labels/ where it says.
# Where it is: `--cfg-options data_root=/path`, or the environment variable YOLO_FOLDER_ROOT.
# Another file or split: `--cfg-options data_root=/path val_annotations=my.yaml#test`.
# All else is as in coco_folder.py.
_base_ = './coco_folder.py'

dataset_type = 'effvit_mm.YoloFolder'
data_root = '{{$YOLO_FOLDER_ROOT:data/yolo_folder}}'
train_annotations = 'data.yaml#train'
val_annotations = 'data.yaml#val'
train_images = ''  # data.yaml says where they are
val_images = ''

train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=train_annotations,
        classes_from=train_annotations,
        data_prefix=dict(img=train_images),
    )
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=val_annotations,
        classes_from=train_annotations,
        data_prefix=dict(img=val_images),
    )
)
val_evaluator = dict(ann_file=data_root + '/' + val_annotations)

test_dataloader = val_dataloader
test_evaluator = val_evaluator
