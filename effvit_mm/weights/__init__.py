"""The one way in which weights enter a network."""
