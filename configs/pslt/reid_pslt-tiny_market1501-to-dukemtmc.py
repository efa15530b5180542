# Across domains: trained on Market-1501, tested on DukeMTMC-reID. Any other pair in the same way; a
# checkpoint that is there is tested by the other set's config.
_base_ = './reid_pslt-tiny_market1501.py'

val_dataloader = dict(
    dataset=dict(source='dukemtmcreid', data_root='{{$DUKEMTMC_ROOT:data/dukemtmc-reid}}')
)
test_dataloader = val_dataloader
