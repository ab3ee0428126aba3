"""Every error this library raises.

RainError
├── ConfigError            an option, preset or criterion is wrong
│   └── CriterionError     a criterion file is broken (names file, key and line)
├── InputError             a prompt, message list, trace file or argument is wrong
│   └── ContextLengthError the prompt leaves no room in the model's context
├── BackendError           a model could not be loaded or failed while running
│   ├── ModelNotFoundError the named model does not exist or is not a model
│   ├── UnsupportedError   the backend lacks a capability
│   ├── EndpointError      the server of a model could not be reached or failed, again and again
│   │   ├── EndpointTimeoutError  it did not answer in time
│   │   └── BadReplyError  it answers, but not this request in a way that can be used
│   ├── RefusedError       the server of a model rejects a request
│   ├── CapacityError      the KV cache's memory limit is too small for one step
│   └── NumericalError     the model returned NaN or only -inf
└── MissingDependencyError an optional package is not installed

Third-party errors are translated once, at the backend's edge, and kept as `__cause__`.
"""

from rain_decoding.secrets_in_text import without_secrets


class RainError(Exception):
    """Base of all errors raised on purpose.

    `hint` says what to do about it; `retryable` is true when the same call may succeed later.
    """

    retryable = False

    def __init__(self, message: str, *, hint: str = ""):
        # It may quote what another library, or a server, says.
        super().__init__(without_secrets(message))
        self.hint = without_secrets(hint)

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message


class ConfigError(RainError):
    """An option, preset or criterion has a value that cannot be used."""


class CriterionError(ConfigError):
    """A criterion file is broken; the message names the file, the key and the line."""


class InputError(RainError):
    """What the caller passed in (prompt, messages, trace, argument) cannot be used."""


class ContextLengthError(InputError):
    """The prompt does not fit in the model's context."""


class BackendError(RainError):
    """A model could not be loaded, or failed while it ran."""


class ModelNotFoundError(BackendError):
    """The named model does not exist, or the folder contains no model."""


class UnsupportedError(BackendError):
    """The backend lacks a capability; the hint names the alternative."""


class EndpointError(BackendError):
    """The server of a model could not be reached or gave no usable reply, also when asked again."""

    retryable = True


class EndpointTimeoutError(EndpointError):
    """The server of a model did not answer in time, also when asked again."""


class BadReplyError(EndpointError):
    """The server of a model answers, but its replies to one request cannot be used. It may serve others well."""


class RefusedError(BackendError):
    """The server of a model does not take a request, and would not if asked again; `reason` is what it says."""

    def __init__(self, message: str, *, reason: str, hint: str = ""):
        super().__init__(message, hint=hint)
        self.reason = without_secrets(reason)


class CapacityError(BackendError):
    """One step needs more KV slots than the memory limit allows."""


class NumericalError(BackendError):
    """The model returned NaN or left no token possible."""


class MissingDependencyError(RainError):
    """An optional package is needed; the hint says how to install it."""
