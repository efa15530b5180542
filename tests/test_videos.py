"""Videos that are read and written."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest
from remedies import tries
from videos import make_video

from effvit_mm.errors import DataError
from effvit_mm.inference import output
from effvit_mm.inference.inputs import find_images
from effvit_mm.inference.videos import Video


def test_a_video_that_is_cut_short_is_named(tmp_path):
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    generator = np.random.default_rng(0)
    for _ in range(50):
        writer.write(generator.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    writer.release()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(list(Video(path))) == 50
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(UserWarning, match=r'clip\.avi: 2\d of the 50 frames'):
        frames = list(Video(path))
    assert 20 <= len(frames) < 30


@pytest.mark.parametrize('fps', [66.667, 211.222, 119.873, 29.97, 1000, 23.976, 655.36])
def test_videos_of_any_rate_are_written(tmp_path, fps):
    like = make_video(tmp_path / 'like.avi', fps=fps, codec='MJPG')
    with output.written_video(tmp_path / 'out.mp4', Video(like)) as write:
        for image in Video(like):
            write(image.array)
    capture = cv2.VideoCapture(str(tmp_path / 'out.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=1e-4)


@tries('is a picture: give it a name that says so, as in x.jpg')
def test_a_picture_with_a_videos_name_is_refused(tmp_path):
    path = tmp_path / 'photo.mp4'
    path.write_bytes(cv2.imencode('.jpg', np.zeros((20, 20, 3), np.uint8))[1])
    message = r'video .*photo\.mp4 is a picture: give it a name that says so, as in x\.jpg'
    with pytest.raises(DataError, match=message):
        Video(path)
    (picture,) = find_images([path.rename(tmp_path / 'x.jpg')])
    assert picture.pixels().shape == (20, 20, 3)
    one = make_video(tmp_path / 'one.avi', 1)
    assert len(list(Video(one))) == 1
