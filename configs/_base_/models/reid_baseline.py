# The strong baseline, but for its backbone: the mean of the last map, the BNNeck, label-smoothed
# cross-entropy behind it and a batch-hard triplet loss before it. The number of persons is taken
# from the training set. Options: pooling effvit_mm.GeMPooling; metric_loss margin='soft',
# cross_camera=True; classifier effvit_mm.ArcFaceLoss, metric_loss effvit_mm.CircleLoss.
model = dict(
    type='effvit_mm.ReIDModel',
    pooling=dict(type='effvit_mm.AveragePooling'),
    classifier=dict(type='effvit_mm.SoftmaxLoss', label_smoothing=0.1),
    metric_loss=dict(type='effvit_mm.TripletLoss', margin=0.3),
)
