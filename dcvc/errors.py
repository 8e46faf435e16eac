"""Errors that the user can mend. One line: the file or field, what was found, what was needed.

The commands print these without a traceback and exit with 1; anything else is a defect and keeps
its traceback.
"""


class DcvcError(Exception):
    """Base of every error the user can mend."""


class InputError(DcvcError, ValueError):
    """A value, size or file content that does not fit (a setting, too few frames, a checkpoint)."""


class ReadError(DcvcError, RuntimeError):
    """A file that cannot be opened or decoded."""


class MissingError(DcvcError, FileNotFoundError):
    """A file or folder that does not exist."""


class TrainingError(DcvcError, RuntimeError):
    """Training cannot go on (loss not finite, too many skipped steps)."""


class BitstreamError(DcvcError, RuntimeError):
    """A stream that is damaged, cut short, or made with another model."""


class UnfinishedError(BitstreamError):
    """A stream that ends before its end: its encoder was stopped, or the rest was lost. The frames
    before are whole."""
