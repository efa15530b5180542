"""Errors that are meant to be read by the person who runs a command.

The tools print such an error as one line and exit with 2; anything else is a fault of ours (or of
a library) and keeps its traceback.
"""


class UserError(ValueError):
    """Something the user gave (an argument, a file, a config key) cannot be used."""


class ConfigError(UserError):
    """A config key has a value that cannot work; the message names key, value and choices."""


class CheckpointError(UserError):
    """A checkpoint cannot be read, or does not belong to the model."""


class DataError(UserError):
    """A data set is missing, empty or broken; the message names folder or file."""


class MissingDataError(DataError):
    """A file or folder of a data set is not where it is looked for; the message has its path."""


class ImageSizeError(DataError):
    """Images are smaller than a network can take; the message names both sizes."""
