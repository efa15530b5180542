"""Lines of the console: what a figure means, not how it is stored."""

import logging

import pytest

from effvit_mm.openmm.console import ConsoleFormatter


@pytest.mark.parametrize(
    ('said', 'shown'),
    [
        ('coco/bbox_mAP_s: 0.2640  coco/bbox_mAP_l: -1.0000  time: 1', 'coco/bbox_mAP_l: -  time'),
        ('coco/segm_mAP_l: -1.0000', 'coco/segm_mAP_l: -'),
        ('lr: -1.0000  coco/bbox_mAP: 0.5220', 'lr: -1.0000  coco/bbox_mAP: 0.5220'),
    ],
)
def test_a_figure_that_does_not_exist_is_a_dash(said, shown):
    record = logging.LogRecord('mmengine', logging.INFO, 'x', 1, said, None, None)
    assert shown in ConsoleFormatter().format(record)
