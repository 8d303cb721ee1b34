"""Named exceptions: each message names the offending value and the remedy in one sentence."""


class GlimpseError(Exception):
    """Base of every error this project raises on purpose."""


class ConfigurationError(GlimpseError, ValueError):
    """An argument has a value outside what is supported."""


class UnknownArgumentError(ConfigurationError, TypeError):
    """An environment takes no such argument; also a TypeError in Python's words, for tools that try what it takes."""


class InvalidActionError(GlimpseError, ValueError):
    """An action is not a member of the action space."""


class DatasetError(GlimpseError):
    """Base of what can be wrong with a data set."""


class DatasetNotFoundError(DatasetError, FileNotFoundError):
    """A data set, or a file of it, is not where it was looked for."""


class DatasetFormatError(DatasetError, ValueError):
    """A file of a data set is there but cannot be read as what it should be."""


class JudgeNotFoundError(GlimpseError, FileNotFoundError):
    """No judge fits the data set."""


class OracleNotFoundError(GlimpseError, FileNotFoundError):
    """No amortised oracle fits the judge."""


class ArtifactError(GlimpseError, ValueError):
    """A saved file (judge, demonstrations, run) is damaged or belongs to something else."""


class DatasetFallbackWarning(UserWarning):
    """The data set asked for is absent and another one stands in for it."""


class IncoherentPosteriorWarning(UserWarning):
    """A judge's expected entropies are mostly above its present ones, which no exact posterior allows."""
