# Trained on Market-1501 and MSMT17 together, tested on Market-1501.
_base_ = './reid_pslt-tiny_market1501.py'

market1501 = _base_.train_dataloader.dataset
msmt17 = dict(market1501, source='msmt17', data_root='{{$MSMT17_ROOT:data/msmt17}}')

train_dataloader = dict(
    dataset=dict(_delete_=True, type='effvit_mm.ConcatReID', datasets=[market1501, msmt17])
)
