"""Every error a user can meet, in one tree.

    AlappError                  the message is one clear sentence for the user
    |-- InputError              a file or value the user gave cannot be used
    |   `-- ImageError          ... a single image file; the others are imported
    |-- NotReadyError           something must be done first (the message says what)
    |-- BackendError            an optional model failed or cannot be used
    |   |-- NotInstalledError   ... its package is missing
    |   |-- WeightsMissingError ... its weights are missing
    |   |-- DownloadError       ... its weights could not be fetched
    |   `-- LicenceError        ... its licence was not accepted
    |-- ConflictError           somebody else changed the same thing in the meantime
    |-- StorageError            the state folder cannot be used
    |   |-- NewerStateError     ... it was written by a newer version of the app
    |   `-- CorruptFileError    ... a file's content does not match its recorded hash
    |-- ResourceError           out of memory or disk
    |   |-- OutOfMemoryError    ... memory, of the computer or of its GPU: the same work may fit in smaller portions
    |   `-- DiskFullError       ... disk
    `-- Cancelled               the user cancelled; not a failure
        `-- Paused              ... or wants it to go on later

Code raises these with a finished sentence: what happened, which file or value, what to do. The edges
(`cli`, `worker`, `ui`) turn them into text; anything else is a bug and gets a log with its traceback.
"""


class AlappError(Exception):
    """Base class: `str(error)` is a sentence for the user."""


class InputError(AlappError):
    """A file or value the user gave cannot be used."""


class ImageError(InputError):
    """One image file cannot be used; others are not affected."""


class NotReadyError(AlappError):
    """An earlier step is missing; the message names it."""


class BackendError(AlappError):
    """An optional model failed or cannot be used."""


class NotInstalledError(BackendError):
    """The package of a model is not installed."""


class WeightsMissingError(BackendError):
    """The weights of a model are not on this machine."""


class DownloadError(BackendError):
    """The weights of a model could not be fetched, or are not what was published."""


class LicenceError(BackendError):
    """The licence of a model was not accepted."""


class ConflictError(AlappError):
    """Another page or person changed the same thing first."""


class StorageError(AlappError):
    """The state folder cannot be used."""


class NewerStateError(StorageError):
    """The state folder was written by a newer version of the app."""


class CorruptFileError(StorageError):
    """A stored file does not have the content that the database recorded."""


class ResourceError(AlappError):
    """Memory or disk ran out."""


class OutOfMemoryError(ResourceError):
    """The memory of the computer or of its GPU ran out."""


class DiskFullError(ResourceError):
    """The disk is full, or too full for what is to be written."""


class Cancelled(AlappError):  # noqa: N818  (it is not an error)
    """The user cancelled the work."""


class Paused(Cancelled):
    """The user paused the work: it is to end where it can be taken up again."""
