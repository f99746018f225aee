"""Adaptive isoFLOP sweeps on Ray: spec, plan, search, ledger, results.

Names are loaded when first used: `Sweep` and `Plan` need neither ray nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.budget import Allocation
    from sweeper.errors import (
        ClusterError,
        DirectoryError,
        IsoskillError,
        SpecError,
        TrialFailed,
    )
    from sweeper.plan.plan import Plan
    from sweeper.search.protocol import Finished
    from sweeper.spec.placement import Resources
    from sweeper.spec.search import SearchSettings
    from sweeper.spec.sections import Cluster, Sizes
    from sweeper.sweep import Results, Sweep

__all__ = [
    "Allocation",
    "Cluster",
    "ClusterError",
    "DirectoryError",
    "Finished",
    "IsoskillError",
    "Plan",
    "Resources",
    "Results",
    "SearchSettings",
    "Sizes",
    "SpecError",
    "Sweep",
    "TrialFailed",
]

_HOME = {
    "Allocation": "budget",
    "Finished": "search.protocol",
    "Plan": "plan.plan",
    "Results": "sweep",
    "SearchSettings": "spec.search",
    "Resources": "spec.placement",
    "Sweep": "sweep",
    **dict.fromkeys(("Cluster", "Sizes"), "spec.sections"),
    **dict.fromkeys(
        ("ClusterError", "DirectoryError", "IsoskillError", "SpecError", "TrialFailed"), "errors"
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sweeper' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sweeper.{_HOME[name]}"), name)
