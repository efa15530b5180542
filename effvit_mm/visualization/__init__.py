"""Pictures of results, by OpenCV and matplotlib."""
