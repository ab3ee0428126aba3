"""Decoders that RAIN is compared with, on the same model and judge, and with the same sharing of computation."""

from __future__ import annotations

from rain_decoding.decoding.baselines.contrast import ContrastDecoder
from rain_decoding.decoding.baselines.judged import JudgedDecoder
from rain_decoding.decoding.baselines.principle import PrincipleDecoder, PrincipleOrRefusalDecoder
from rain_decoding.decoding.baselines.refining import SelfRefineDecoder
from rain_decoding.decoding.baselines.rollback import CritiqueDecoder, ReflectionDecoder
from rain_decoding.decoding.baselines.sampling import (
    BestOfDecoder,
    RegenerateDecoder,
    RejectionDecoder,
    SamplingDecoder,
)

__all__ = [
    "BestOfDecoder",
    "ContrastDecoder",
    "CritiqueDecoder",
    "JudgedDecoder",
    "PrincipleDecoder",
    "PrincipleOrRefusalDecoder",
    "ReflectionDecoder",
    "RegenerateDecoder",
    "RejectionDecoder",
    "SamplingDecoder",
    "SelfRefineDecoder",
]
