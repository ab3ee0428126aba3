"""The micro-world: requests, a grammar of answers, and an oracle that labels them."""

from rain_decoding.microworld.answers import answer, turn_position
from rain_decoding.microworld.documents import Document, document, misjudged, misjudged_request
from rain_decoding.microworld.judging import CRITERIA, JudgePrompt, judge_prompt, render_turns
from rain_decoding.microworld.oracle import Label, label, oracle_score
from rain_decoding.microworld.requests import (
    FAMILIES,
    Family,
    Request,
    all_requests,
    draw_request,
    example_prompts,
    find_request,
    sample_requests,
)

__all__ = [
    "CRITERIA",
    "FAMILIES",
    "Document",
    "Family",
    "JudgePrompt",
    "Label",
    "Request",
    "all_requests",
    "answer",
    "document",
    "draw_request",
    "example_prompts",
    "find_request",
    "judge_prompt",
    "label",
    "misjudged",
    "misjudged_request",
    "oracle_score",
    "render_turns",
    "sample_requests",
    "turn_position",
]
