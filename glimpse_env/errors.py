"""Named exceptions: each message names the offending value and the remedy in one sentence."""


class GlimpseError(Exception):
    """Base of every error this project raises on purpose."""


class ConfigurationError(GlimpseError, ValueError):
    """An argument has a value outside what is supported."""


class UnknownArgumentError(ConfigurationError, TypeError):
    """An environment takes no such argument; also a TypeError, for tools that find out by trying."""


class InvalidActionError(GlimpseError, ValueError):
    """An action is not a member of the action space."""


class DatasetError(GlimpseError):
    """Base of the errors of data sets."""


class DatasetNotFoundError(DatasetError, FileNotFoundError):
    """A data set, or one of its files, is missing."""


class DatasetFormatError(DatasetError, ValueError):
    """A file of a data set is damaged or of another format."""


class JudgeNotFoundError(GlimpseError, FileNotFoundError):
    """No judge was trained on the data set."""


class OracleNotFoundError(GlimpseError, FileNotFoundError):
    """No amortised oracle was trained for the judge."""


class ArtifactError(GlimpseError, ValueError):
    """A saved file (judge, demonstrations, run) is damaged or belongs to something else."""


class StorageError(GlimpseError, OSError):
    """A file cannot be written: its disk is full or its folder not writable."""


class HubError(GlimpseError, OSError):
    """The Hugging Face Hub refuses what was asked, or cannot be reached."""


class UntrustedFileError(ArtifactError):
    """Reading a file would run the code that it holds or names, and nobody said that it is trusted."""


class ShadowedPackageError(GlimpseError, ImportError):
    """Another project's package has the name of one of ours and is found in its place."""


class DatasetFallbackWarning(UserWarning):
    """The data set asked for is missing and another one takes its place."""


class IncoherentPosteriorWarning(UserWarning):
    """A judge's expected entropies are mostly above its present ones, which no exact posterior allows."""
