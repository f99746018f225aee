"""The report of a sweep: one HTML file that needs nothing beside it, the answer first."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fitting import Fits
from fitting.laws.surface import HUBER_DELTA
from fitting.values import FLOPS_PER_PARAM_TOKEN, Z90
from sweeper.analysis.conclusions import SUGGESTIVE, Contrast, conclusions, contrasts
from sweeper.analysis.summary import METHODS
from sweeper.analysis.weak import weak_in
from sweeper.errors import SpecError
from sweeper.plan.recipe import recipe_lines
from sweeper.record.proof import proofs, sentences
from sweeper.record.record import Outcome, Record
from sweeper.report import studies as report_studies
from sweeper.report import tables
from sweeper.report.figures import COLOURS, figures, ramp, toggles
from sweeper.spec.checks import MIN_STEPS
from sweeper.spec.spec import Spec
from sweeper.text import between, bound, duration, number, percent, plural

FOREST_REACH = 8.0
"""Largest ratio on the axis of ratios; longer intervals are cut (assumption)."""

_PACKAGES = ("isoskill", "ray", "torch", "transformers", "numpy", "scipy", "pandas", "optuna")

_SECTIONS = {
    "answer": "Answer", "optima": "Optima", "figures": "Figures", "methods-compared": "Methods",
    "studies": "Studies", "sweep": "Sweep", "trials": "Trials", "left-out": "Left out",
    "how": "How",
}  # fmt: skip

RECIPE = ("part", "what every trial is trained with", "in doubt")
"""Headings of the recipe."""

FORMS = {".html": "report.html.j2", ".md": "report.md.j2", ".json": ""}
"""Suffixes of reports, and the templates they are filled from."""


def write(outcome: Outcome, path: Path, fits: Fits) -> Path:
    """Write a sweep's report.

    Args:
        path: an HTML, Markdown or JSON file, by its suffix; its directory must exist.
        fits: the fits to report, `Outcome.fit`.

    Returns:
        ``path``.

    Raises:
        SpecError: another suffix.
    """
    if path.suffix not in FORMS:
        raise SpecError(f"report: {path.name!r} must end in one of {', '.join(FORMS)}")
    trials = outcome.trials if isinstance(outcome, Record) else tables.trials_of(outcome.table)
    if path.suffix == ".json":
        text = _data(outcome, fits, trials)
    else:
        content = _content(outcome, fits, trials)
        text = _render(content, FORMS[path.suffix], escape=path.suffix == ".html")
    path.write_text(text, encoding="utf-8")
    return path


def _data(outcome: Outcome, fits: Fits, trials: pd.DataFrame) -> str:
    """What the page says as numbers: fits, every trial, and how they came about."""
    rows = {"trials": trials, "observations": outcome.table, "excluded": fits.excluded}
    values = {
        "name": outcome.sweep.name,
        "aggregate": outcome.aggregate,
        "conclusions": conclusions(fits, outcome.aggregate, weak_in(outcome, fits)),
        "finished": asdict(outcome.finished) if outcome.finished else None,
        "proof": _proof(outcome),
        "fits": json.loads(fits.to_json()),
        **{name: json.loads(table.to_json(orient="records")) for name, table in rows.items()},
        "warnings": list(fits.warnings),
        "recipe": [] if outcome.read else [asdict(x) for x in recipe_lines(outcome.sweep)],
        "constants": _constants(outcome.sweep),
        **_provenance(outcome),
        **({"spec": None} if outcome.read else {"spec": outcome.sweep.to_dict()}),
    }
    return json.dumps(values, indent=1)


def _render(content: Mapping[str, Any], template: str, *, escape: bool) -> str:
    """Fill a template; in HTML everything that came from data is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    return bound(environment.get_template(template).render(content))


def _cell(text: object) -> str:
    """A value inside a Markdown table: on one line, with nothing that Markdown would act on."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", line)


def _content(outcome: Outcome, fits: Fits, trials: pd.DataFrame) -> dict[str, Any]:
    """Everything the template shows."""
    skills, sweep = _ordered(outcome, fits), outcome.sweep
    studies = report_studies.sections(outcome)
    constants = tables.table(_constants(sweep), "constant", "value|id", "source")
    recipe = () if outcome.read else recipe_lines(sweep)
    findings = _findings(fits, outcome.aggregate, skills, weak_in(outcome, fits))
    answers = [sentence for study in studies for sentence in study.get("answers", ())]
    return {
        "name": sweep.name,
        "sweep": sweep,
        "subtitle": _subtitle(outcome, trials),
        "sections": {k: v for k, v in _SECTIONS.items() if studies or k != "studies"},
        "studies": studies,
        **findings,
        "said": [
            *answers,
            *findings["said"],
        ],  # the question that the sweep was run for comes first
        "cards": _cards(outcome, trials),
        "stop": outcome.finished,
        "proof": _proof(outcome),
        "budgets": tables.budgets(sweep, trials),
        "trials": tables.every_trial(trials, outcome.table, skills),
        "failures": tables.failures(trials),
        "faults": tables.faults(outcome.events if isinstance(outcome, Record) else None),
        "wasted": _wasted(trials),
        "excluded": tables.excluded(fits.excluded),
        "warnings": [*fits.warnings, *(f"Recipe, {x.name}: {x.doubt}" for x in recipe if x.doubt)],
        "recipe": tables.table(((x.name, x.value, x.doubt) for x in recipe), *RECIPE),
        "corpus": _corpus(outcome),
        "constants": constants,
        **_provenance(outcome),
    }


def _proof(outcome: Outcome) -> list[str]:
    """What the last trials were predicted to measure, and what they did."""
    if not isinstance(outcome, Record):
        return []
    return sentences(proofs(outcome.events, outcome.table))


def _wasted(trials: pd.DataFrame) -> str:
    """FLOPs that faults made the sweep pay twice, in words; "" for none."""
    wasted = float(trials["wasted_flops"].sum()) if "wasted_flops" in trials else 0.0
    share = wasted / max(float(trials["spent_flops"].sum()), 1.0)
    return f"{number(wasted)} FLOPs, {percent(share, 2)} of what was spent" if wasted else ""


def _findings(
    fits: Fits, aggregate: str | None, skills: Sequence[str], weak: Mapping[str, str]
) -> dict[str, Any]:
    """What follows from the fits: words, tables, figures."""
    others = [name for name in skills if name != aggregate]
    own = {name: f"--c{i % COLOURS}" for i, name in enumerate(others)}
    colours = {name: own.get(name, "--aggregate") for name in skills}
    ladder = list(fits.observations.budgets)
    beyond = tables.BEYOND * max(ladder)
    return {
        "aggregate": aggregate,
        "method": fits.method,
        "method_words": METHODS[fits.method],
        "colours": colours,
        "ramp": ramp(len(ladder)),
        "said": conclusions(fits, aggregate, weak),
        "forest": _forest(contrasts(fits, aggregate, weak), aggregate),
        "optima": tables.optima(fits, colours, ladder),
        "best": tables.optima(fits, colours, ladder[-1:]),
        "laws": tables.laws(fits, colours, beyond),
        "beyond": number(beyond) if any(fits[name].law.ok for name in skills) else "",
        "beyond_factor": number(tables.BEYOND),
        "figures": figures(fits, aggregate, skills),
        "toggles": toggles(fits, aggregate, skills),
        "methods": tables.methods(fits, colours),
    }


def _provenance(outcome: Outcome) -> dict[str, Any]:
    """What it takes to check the numbers and to reproduce them."""
    spec = yaml.safe_dump(outcome.sweep.to_dict(), sort_keys=False)
    return {
        "read": outcome.read,
        "versions": _versions(),
        "hashes": _hashes(outcome, spec),
        "spec": spec,
        "version": metadata.version("isoskill"),
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _corpus(outcome: Outcome) -> dict[str, Any] | None:
    """What the manifest of a prepared corpus says; None without one."""
    if not isinstance(outcome, Record) or not outcome.directory.corpus.exists():
        return None
    manifest = json.loads(outcome.directory.corpus.read_text(encoding="utf-8"))
    return tables.corpus(manifest, outcome.sweep.data)


def _constants(sweep: Spec) -> list[tuple[str, str, str]]:
    """Name, value and source of what the numbers rest on."""
    search = sweep.search
    return [
        ("FLOPs per parameter and token", f"{FLOPS_PER_PARAM_TOKEN:g}", "Kaplan et al. 2020"),
        ("Half-width of a 90 % interval", f"{Z90:.4f} standard errors", "normal distribution"),
        ("Robust loss of the surface", f"log-Huber, δ = {HUBER_DELTA:g}", "Hoffmann et al. 2022"),
        ("First guess of t / p", f"{search.tokens_per_param:g}", "Hoffmann et al. 2022"),
        ("Reach of the sizes tried", f"e^±{search.reach:g}", "measured in simulation"),
        ("Fewest optimiser steps of a trial", f"{MIN_STEPS}", "assumption"),
        ("Suggestive from", f"{SUGGESTIVE:g} of the half-width", "assumption: odds of 4 to 1"),
    ]


def _ordered(outcome: Outcome, fits: Fits) -> list[str]:
    """Skills in the order of the spec, the aggregate last."""
    listed = [name for name in outcome.sweep.measured if name in fits]
    names = listed + [name for name in fits if name not in listed]
    return sorted(names, key=lambda name: name == outcome.aggregate)


def _subtitle(outcome: Outcome, trials: pd.DataFrame) -> str:
    sweep = outcome.sweep
    ended = int((trials["state"] != "running").sum())
    low, high = number(sweep.budgets[0]), number(sweep.budgets[-1])
    many = len(sweep.budgets) > 1
    ladder = f"{len(sweep.budgets)} budgets from {low} to {high}" if many else low
    state = (
        "" if outcome.finished or outcome.read else " · not finished: these are the results so far"
    )
    return f"{plural(ended, 'trial')} on {ladder} FLOPs{state}"


def _forest(compared: Sequence[Contrast], aggregate: str | None) -> dict[str, Any] | None:
    """Ratios and intervals placed on a log axis, in per cent of its width."""
    known = [c for c in compared if math.isfinite(c.ratio)]
    if not known:
        return None
    reach = max(abs(math.log(b)) for c in known for b in (*c.interval, c.ratio) if _sound(b))
    reach = min(max(1.1 * reach, math.log(1.3)), math.log(FOREST_REACH))

    def at(value: float) -> float:
        share = math.log(value) / reach
        return round(50 + 48 * min(max(share, -1.0), 1.0), 2)

    rows = [
        {
            "skill": c.skill,
            "label": c.skill if c.reference == aggregate else f"{c.skill} over {c.reference}",
            "ratio": f"{c.ratio:.2f}",
            "interval": between(c.interval, "{:.2f}"),
            "at": at(c.ratio),
            "ends": [at(end if _sound(end) else c.ratio) for end in c.interval],
            "certainty": c.certainty,
        }
        for c in known
    ]
    return {"rows": rows, "ticks": [(at(v), f"{v:.2g}") for v in _ticks(reach)], "one": at(1.0)}


def _sound(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _ticks(reach: float) -> list[float]:
    """Round ratios within e^±reach, few enough to be read on a phone."""
    for steps in ((1.1,), (1.25,), (1.5,), (2.0,), (2.0, 4.0), (2.0, 5.0), (3.0, 10.0)):
        if math.log(steps[-1]) > 0.5 * reach:
            break
    inside = [s for s in steps if math.log(s) <= reach]
    return sorted({1.0, *inside, *(1 / s for s in inside)})


def _card(label: str, value: str, detail: str, share: float | None = None) -> dict[str, Any]:
    """A figure with its small print, and how full its meter is, in per cent."""
    return {"label": label, "value": value, "detail": detail, "share": share}


def _cards(outcome: Outcome, trials: pd.DataFrame) -> list[dict[str, Any]]:
    """What the sweep cost, in a few figures."""
    spent, allowance = float(trials["spent_flops"].sum()), outcome.sweep.allowance
    share = spent / allowance
    states = ", ".join(f"{n} {state}" for state, n in trials["state"].value_counts().items())
    allowed = f"{percent(share)} of {number(allowance)} allowed"
    cards = [
        _card("FLOPs of the runs", number(spent), "")
        if outcome.read
        else _card("FLOPs spent", number(spent), allowed, round(100 * min(share, 1.0), 1)),
        _card("Trials", str(len(trials)), states),
    ]
    return cards + _clock(outcome) if isinstance(outcome, Record) else cards


def _clock(results: Record) -> list[dict[str, Any]]:
    """What only a real sweep has: time and overhead."""
    trials, waits = results.trials, results.overhead_s()
    ends, cards = trials["ended_at"].dropna(), []
    if len(ends):
        wall = duration(float(ends.max() - trials["started_at"].min()))
        busy = f"{duration(float(trials['wall_s'].sum()))} of training, side by side"
        cards.append(_card("Wall clock", wall, busy))
    if len(waits):
        detail = f"median from free slot to first step; worst {waits.max():.2f} s"
        cards.append(_card("Overhead per trial", f"{waits.median():.2f} s", detail))
    return cards


def _versions() -> list[tuple[str, str]]:
    """Packages that decide results, without importing them."""
    found = [("python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def _hashes(outcome: Outcome, spec: str) -> list[tuple[str, str]]:
    """Short digests that show whether two reports are of the same spec and losses."""
    columns = [c for c in ("trial_id", "skill", "loss") if c in outcome.table]
    rows = outcome.table[columns].sort_values(columns[:2]).to_csv(index=False)
    hashed = {} if outcome.read else {"spec": spec}
    hashed["observations"] = rows
    digests = {k: hashlib.sha256(v.encode()).hexdigest()[:16] for k, v in hashed.items()}
    return [(name, f"sha256 {digest}") for name, digest in digests.items()]
