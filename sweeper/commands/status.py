"""How far a sweep is: read from its directory while it runs, after a crash, or from a copy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live as Screen
from rich.text import Text

from fitting import Fits
from sweeper.analysis.weak import weak_in
from sweeper.budget import Allocation
from sweeper.record.live import Live, read
from sweeper.record.timeleft import ahead_of, left_s, trial_left_s
from sweeper.search.build import policy
from sweeper.search.protocol import Search
from sweeper.sweep import Results
from sweeper.text import (
    duration,
    fitted,
    grid,
    named,
    number,
    percent,
    screen_width,
    si,
    within,
)

ROUTINE = ("engine", "started", "resumed", "finished", "driver-started", "driver-finished",
           "proof")  # fmt: skip
"""Events that need no attention."""

SHOWN_EVENTS = 6
"""Events on the screen; all are in the ledger and the report."""

SHOWN_BUDGETS = 4
"""Largest budgets on the screen, so that the table of optima fits 80 columns."""

REFRESH_S = 2.0
"""Seconds between looks at the ledger when watching."""


def snapshot(
    results: Results, fits: Fits | None = None, search: Search | None = None
) -> dict[str, Any]:
    """What there is to know of a sweep now, as plain values (the form of ``status --json``).

    Args:
        fits: its fits, to show where the optima lie; None leaves them out.
        search: its policy, which remembers its last fit; a new one by default.

    Returns:
        ``name``, ``trials`` (number by state), FLOPs ``allowance_flops``, ``spent_flops``,
        ``reserved_flops`` and ``wasted_flops`` (paid twice, after faults), ``left_s`` (about;
        None if unknown), ``driver`` (who drives it now, or None), ``by_hand``, ``dashboard``,
        ``in_training``, ``optima``, ``warnings``, ``events`` (those that are not routine),
        ``finished`` and ``detail``.
    """
    live = read(results.directory.live)
    driver = results.directory.holder()
    trials = results.trials
    return {
        "name": results.sweep.name,
        "trials": {str(k): int(v) for k, v in trials["state"].value_counts().items()},
        "allowance_flops": results.sweep.allowance,
        "spent_flops": results.spent_flops,
        "reserved_flops": float(trials["reserved_flops"].sum()),
        "wasted_flops": float(trials["wasted_flops"].sum()),
        "left_s": _left_s(results, live, search) if driver else None,
        "driver": driver,
        "by_hand": results.by_hand,
        "dashboard": live.dashboard if driver else "",
        "in_training": _in_training(results, live if driver else Live()),
        "optima": _optima(fits) if fits else [],
        "warnings": [*fits.warnings, *weak_in(results, fits).values()] if fits else [],
        "events": _events(results),
        "finished": results.finished.reason if results.finished else None,
        "detail": results.finished.detail if results.finished else "",
    }


def _left_s(results: Results, live: Live, search: Search | None) -> float | None:
    spec, trials = results.sweep, results.trials
    search = search or policy(spec, spec.measured)
    ahead = ahead_of(search, spec.allowance, trials, results.table)
    return left_s(trials, live, spec.allowance, ahead)


def _in_training(results: Results, live: Live) -> list[dict[str, Any]]:
    rows = []
    for t in results.trials[results.trials["state"] == "running"].itertuples():
        progress = live.trials.get(str(t.trial_id))
        tokens = progress.tokens if progress else float(t.trained_tokens)
        rows.append(
            {
                "trial_id": t.trial_id,
                "name": str(Allocation(t.flops, int(t.params), int(t.tokens), t.seed, t.mix)),
                "share": tokens / t.tokens if progress or tokens else None,
                "tokens_per_s": progress.tokens_per_s if progress else None,
                "left_s": trial_left_s(progress, t.tokens),
            }
        )
    return rows


def _optima(fits: Fits) -> list[dict[str, Any]]:
    rows = []
    for skill in fits:
        for flops in fits.observations.budgets:
            best = fits[skill].at(flops)
            values = {"params": best.params, "low": best.interval[0], "high": best.interval[1]}
            known = {k: v if math.isfinite(v) else None for k, v in values.items()}
            rows.append({"skill": skill, "flops": flops, **known, "status": str(best.status)})
    return rows


def _events(results: Results) -> list[dict[str, Any]]:
    seen = results.events[~results.events["kind"].isin(ROUTINE)]
    return [
        {"at": float(e.at), "kind": e.kind, "trial_id": e.trial_id, "detail": e.detail}
        for e in seen.itertuples()
    ]


def render(values: dict[str, Any]) -> Text:
    """The snapshot for a terminal, no wider than it."""
    notes = [f"note: {line}" for line in values["warnings"]]
    lines = [
        *_head(values),
        *_training(values["in_training"], _running(values)),
        *_optima_table(values["optima"]),
        *notes,
        *map(_event_line, values["events"][-SHOWN_EVENTS:]),
    ]
    if values["finished"]:
        lines.append(f"finished ({values['finished']}): {values['detail']}")
    styled = [Text(fitted(line), style="yellow" if line in notes else "") for line in lines]
    return Text("\n").join(styled)


def _running(values: dict[str, Any]) -> str:
    """What a trial is that has not ended."""
    if values["driver"]:
        return "in training"
    return "out" if values["by_hand"] else "interrupted"


def _head(values: dict[str, Any]) -> list[str]:
    spent, reserved = values["spent_flops"], values["reserved_flops"]
    allowance, driver = values["allowance_flops"], values["driver"]
    words = {} if driver else {"running": _running(values)}
    states = ", ".join(f"{n} {words.get(state, state)}" for state, n in values["trials"].items())
    rows = {
        "sweep": values["name"],
        "trials": states or "none yet",
        "spent": f"{number(spent)} of {number(allowance)} FLOPs ({percent(spent / allowance)})"
        + (f", {number(reserved)} reserved" if reserved else ""),
        "": _bar(spent, reserved, allowance),
    }
    if values["wasted_flops"]:
        rows["twice"] = f"{number(values['wasted_flops'])} FLOPs, after faults"
    if driver:
        rows["driver"] = f"process {driver['pid']} on {driver['host']}"
    elif not values["finished"] or values["in_training"]:
        rows["driver"] = "none: " + (
            "launched by hand; `isoskill tell` records what became of a trial"
            if values["by_hand"]
            else "the same `isoskill run` goes on with it"
        )
    if values["left_s"] is not None:
        rows["left"] = f"about {duration(values['left_s'], digits=2)}"
    if values["dashboard"]:
        rows["dashboard"] = values["dashboard"]
    return [named(name, value) for name, value in rows.items()]


def _bar(spent: float, reserved: float, allowance: float) -> str:
    width = min(40, screen_width() - 10)
    done = round(width * min(spent / allowance, 1.0))
    doing = round(width * min((spent + reserved) / allowance, 1.0)) - done
    return "█" * done + "▒" * doing + "░" * (width - done - doing)


def _training(rows: list[dict[str, Any]], what: str) -> list[str]:
    cells = [
        (
            row["name"],
            percent(row["share"]) if row["share"] is not None else "–",
            si(row["tokens_per_s"]) if row["tokens_per_s"] is not None else "–",
            duration(row["left_s"], digits=2) if row["left_s"] is not None else "–",
            row["trial_id"],
        )
        for row in rows
    ]
    head = (what, "done", "tokens/s", "left", "id")
    return ["", *grid(head, cells, right="lrrrl")] if rows else []


def _optima_table(rows: list[dict[str, Any]]) -> list[str]:
    budgets = sorted({row["flops"] for row in rows})[-SHOWN_BUDGETS:]
    cells = {(row["skill"], row["flops"]): _cell(row) for row in rows}
    table = [
        (skill, *(cells[skill, b] for b in budgets))
        for skill in dict.fromkeys(row["skill"] for row in rows)
    ]
    head = ("best size", *(f"{number(b)} FLOPs" for b in budgets))
    return ["", *grid(head, table), ""] if rows else []


def _cell(row: dict[str, Any]) -> str:
    """An optimum, the half-width of its interval and a doubt, such as 124M ±15 %, edge."""
    if row["params"] is None:
        return "–"
    if row["low"] is None or row["high"] is None or row["low"] <= 0:
        return f"{si(row['params'])} ?"
    known = within(math.log(row["high"] / row["low"]) / 2)
    mark = "" if row["status"] == "ok" else f", {row['status']}"
    return f"{si(row['params'])} {'' if known.startswith('±') else 'within '}{known}{mark}"


def _event_line(event: dict[str, Any]) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(event["at"]))
    first = (str(event["detail"]).splitlines() or [""])[0]
    return f"{when} {event['kind']} {event['trial_id'] or ''} {first}".rstrip()


def watch(open_results: Callable[[], Results]) -> None:
    """Show the snapshot again until the sweep has ended or the user interrupts."""
    ended, fits, search = -1, None, None
    with Screen(console=Console(markup=False, emoji=False), auto_refresh=False) as screen:
        while True:
            results = open_results()
            search = search or policy(results.sweep, results.sweep.measured)
            count = int((results.trials["state"] != "running").sum())
            if count != ended and results.fittable:
                fits, ended = results.fit(), count
            values = snapshot(results, fits, search)
            screen.update(render(values), refresh=True)
            if values["driver"] is None:
                return
            time.sleep(REFRESH_S)
