# PSLT-base: raw maps of strides 4 to 32.
_base_ = './pslt-tiny.py'

backbone = dict(arch='base')
