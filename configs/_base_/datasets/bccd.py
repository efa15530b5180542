# BCCD, blood cells under a microscope, as a COCO-style folder: train.json, val.json, test.json and
# images/, 640 x 480, brought to half of that. Three classes; most objects are 40 to 120 pixels then.
# Where it is: `--cfg-options data_root=/path`, or the environment variable COCO_FOLDER_ROOT.
_base_ = './coco_folder.py'

train_annotations = 'train.json'
val_annotations = 'val.json'
test_annotations = 'test.json'

# Cells have no upright side.
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(scale=(320, 240))
train_pipeline[3].update(prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal'])
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(320, 240))

train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        ann_file=train_annotations, classes_from=train_annotations, pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(ann_file=val_annotations, classes_from=train_annotations, pipeline=test_pipeline),
)
val_evaluator = dict(ann_file=_base_.data_root + '/' + val_annotations)

test_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(ann_file=test_annotations, classes_from=train_annotations, pipeline=test_pipeline),
)
test_evaluator = dict(ann_file=_base_.data_root + '/' + test_annotations)
