"""Keeping secrets out of what a sweep writes: its ledger, its lines and its report."""

from __future__ import annotations

import os
import re

_NAMES = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_KEY|CREDENTIAL|AUTHORIZATION", re.I)
"""Environment variables whose values are secrets."""

SHORTEST = 8
"""Characters below which a value is not taken for a secret (assumption: "1" and "true" are none,
and hiding them would make every message unreadable)."""

_SHAPES = (
    (re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"), "***"),  # user:password@ in an address
    (re.compile(r"(?i)(?<=bearer )[\w.~+/=-]{8,}"), "***"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), "***"),  # AWS access key ids
    (re.compile(r"\b(?:hf_|sk-|ghp_|github_pat_|xox[bap]-)[\w-]{16,}"), "***"),
    (re.compile(r"(?i)((?:password|secret|token|api_?key)['\"]?\s*[=:]\s*['\"]?)[^\s'\",;&]{8,}"),
     r"\1***"),
)  # fmt: skip


_ESCAPES = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]"
)
"""What colours a terminal or moves its cursor: Ray's messages are full of it."""


def redact(text: str) -> str:
    """Blank out what looks like a secret, every value of a secret variable, and colours."""
    text = _ESCAPES.sub("", text)
    secrets = {v for k, v in os.environ.items() if _NAMES.search(k) and len(v) >= SHORTEST}
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, "***")
    for pattern, shown in _SHAPES:
        text = pattern.sub(shown, text)
    return text
