"""Rewindable auto-regressive inference: a frozen language model aligns itself while it decodes."""

from rain_decoding.backends import load_backend
from rain_decoding.config import PRESETS, SearchConfig
from rain_decoding.custom_generate import rain_generate
from rain_decoding.decoding.asynchronous import AsyncStream
from rain_decoding.decoding.baselines import (
    BestOfDecoder,
    RegenerateDecoder,
    RejectionDecoder,
    SelfRefineDecoder,
)
from rain_decoding.decoding.plain_decoder import PlainDecoder
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.decoding.stream import Stream
from rain_decoding.errors import (
    BackendError,
    CapacityError,
    ConfigError,
    ContextLengthError,
    CriterionError,
    EndpointError,
    EndpointTimeoutError,
    InputError,
    MissingDependencyError,
    ModelNotFoundError,
    NumericalError,
    RainError,
    RefusedError,
    UnsupportedError,
)
from rain_decoding.self_evaluation.criterion import Criterion, load_criterion, principle_criterion
from rain_decoding.types import Commit, Completion, Judgement, Message, Usage
from rain_decoding.version import __version__

__all__ = [
    "PRESETS",
    "AsyncStream",
    "BackendError",
    "BestOfDecoder",
    "CapacityError",
    "Commit",
    "Completion",
    "ConfigError",
    "ContextLengthError",
    "Criterion",
    "CriterionError",
    "EndpointError",
    "EndpointTimeoutError",
    "InputError",
    "Judgement",
    "Message",
    "MissingDependencyError",
    "ModelNotFoundError",
    "NumericalError",
    "PlainDecoder",
    "RainDecoder",
    "RainError",
    "RefusedError",
    "RegenerateDecoder",
    "RejectionDecoder",
    "SearchConfig",
    "SelfRefineDecoder",
    "Stream",
    "UnsupportedError",
    "Usage",
    "__version__",
    "load_backend",
    "load_criterion",
    "principle_criterion",
    "rain_generate",
]
