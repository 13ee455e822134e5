"""One exception type per kind of mistake. Each message says what is wrong, where (file, id, value) and what to do about it."""


class WsisError(Exception):
    """Base of every error that a user can fix; the command line prints it without a traceback."""

    def __init__(self, message: str = "") -> None:
        # A loader's worker passes its error on as the text of a traceback, whose last line is "<type>: <message>".
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].rstrip())


class DataError(WsisError):
    """A data set on disk is unreadable or contradicts itself: image, JSON, ids, masks, label maps."""


class AnnotationError(DataError):
    """A weak label does not fit its image or object: a point off the object, extreme points without a box."""


class ConfigError(WsisError):
    """A parameter, recipe key or combination of settings does not exist or makes no sense."""


class WeightsError(WsisError):
    """Weights are missing, have another hash, or do not fit the model."""


class CheckpointError(WsisError):
    """A checkpoint is truncated or belongs to another run."""


class TrainingError(WsisError):
    """Training produced NaN or infinity, or stopped; the message names the step, the images and the loss term."""


class DiskSpaceError(WsisError):
    """There is no room left where a result was to be written."""
