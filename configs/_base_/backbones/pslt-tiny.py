# PSLT-tiny: raw maps of strides 4 to 32. Detectors have it where a config names no other.
backbone = dict(type='effvit_mm.PSLT', arch='tiny', out_indices=(0, 1, 2, 3), final_norm=False)
