"""Small videos."""

import cv2
import numpy as np


def make_video(path, frames=5, size=(48, 64), fps=10, codec='mp4v'):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size[::-1])
    generator = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(generator.integers(0, 255, (*size, 3), dtype=np.uint8))
    writer.release()
    return path
