# CUHK03's first protocol on detected boxes: 1,260 people to train, 100 to test, one image of each
# person and camera in the gallery at a time. Published figures are means over split_id 0 to 19.
_base_ = './cuhk03.py'

source_args = dict(cuhk03_labeled=False, cuhk03_classic_split=True, split_id=0)

train_dataloader = dict(dataset=dict(source_args=source_args))
val_dataloader = dict(dataset=dict(source_args=source_args))
val_evaluator = dict(cuhk03=True)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
