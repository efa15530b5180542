"""Sample data that is drawn on first use: scenes of real digits, pedestrians."""
