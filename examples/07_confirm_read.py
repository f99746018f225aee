"""Read the confirming run as its protocol says, and keep what it found.

    python examples/07_confirm_read.py FOLDER [KEEP]

FOLDER is what 07_confirm.py wrote, or the kept observations.parquet; KEEP is where the table, the
losses by rate and the summary go.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

from fitting import compare_skills, fit_skills
from fitting.values import Z90
from sweeper.analysis.conclusions import contrast
from sweeper.analysis.studies.run import analyse
from sweeper.analysis.studies.source import Source
from sweeper.record.directory import Directory
from sweeper.record.ledger import Ledger

KEPT = ("world", "arm", "trial_id", "flops", "params", "tokens", "seed", "mix", "skill", "class",
        "loss", "status", "reason", "spent_flops", "wall_s")  # fmt: skip
EXCHANGED = 0.584 - 0.199
"""Share that knowledge gives to code in the swap arm."""

LATE = 2384
"""World whose swap the clock had stopped."""

HALVES = {
    "first": ("knowledge", "code-1", "code-3", "code-5"),
    "second": ("knowledge-qa", "code-2", "code-4", "code-6"),
}
CLASSES = {"knowledge": "knowledge", "knowledge-qa": "knowledge"} | {
    f"code-{grade}": "code" for grade in range(1, 7)
}


def main() -> None:
    where = Path(sys.argv[1])
    table = pd.read_parquet(where) if where.is_file() else complete(where)
    rates = where / "rates.csv" if where.is_dir() else where.parent / "rates.csv"
    lines = [*pairs(table), *beside(table), *learning_rates(rates), *python_source(table)]
    print("\n".join(lines))
    if len(sys.argv) > 2:
        keep = Path(sys.argv[2])
        keep.mkdir(parents=True, exist_ok=True)
        table.to_parquet(keep / "observations.parquet", index=False)
        if rates.exists() and rates.parent != keep:
            shutil.copyfile(rates, keep / "rates.csv")
        (keep / "result.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def complete(folder: Path) -> pd.DataFrame:
    """The observations of the sweeps that ended."""
    parts = []
    for root in sorted(folder.glob("[0-9]*-*")):
        ledger = Ledger(Directory(root).ledger, read_only=True)
        ended, table = ledger.meta("finished"), ledger.observations()
        ledger.close()
        if ended:
            world, arm = root.name.split("-")
            parts.append(table.assign(world=int(world), arm=arm))
    return pd.concat(parts, ignore_index=True)[list(KEPT)]


def pairs(table: pd.DataFrame) -> list[str]:
    """Points 1 and 2 of the protocol."""
    ratios: dict[tuple[int, str], float] = {}
    errors: dict[int, float] = {}
    own: dict[tuple[int, str, str], float] = {}
    lines = ["## Knowledge against code, each world and arm", "",
             "| world | arm | trials | ratio by the guarded laws | 90 % | parabolas | budgets | "
             "knowledge p* | code p* |", "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    own_worlds = table[table["arm"] != "python"]
    for (world, arm), rows in own_worlds.groupby(["world", "arm"], sort=False):
        sound = rows[rows["status"] == "finished"]
        fits = fit_skills(sound)
        found = contrast(fits, "knowledge", "code")
        paired = compare_skills(sound, "knowledge", "code")
        low, high = found.interval
        ratios[int(world), str(arm)] = math.log(found.ratio) if found.ratio > 0 else math.nan
        if arm == "base" and low > 0:
            errors[int(world)] = math.log(high / low) / 2 / Z90
        sizes = []
        for skill in ("knowledge", "code"):
            law = fits[skill].law
            own[int(world), str(arm), skill] = math.log(float(law(2e11))) if law.ok else math.nan
            sizes.append(f"{float(law(2e11)):,.0f}" if law.ok else str(law.status))
        lines.append(
            f"| {world} | {arm} | {rows['trial_id'].nunique()} | {found.ratio:.2f} "
            f"| {low:.2f} to {high:.2f} | {_ratio(paired.pooled)} | {len(paired.frame)} "
            f"| {sizes[0]} | {sizes[1]} |"
        )
    base = {w: v for (w, arm), v in ratios.items() if arm == "base" and math.isfinite(v)}
    both = {w: ratios[w, "swap"] - v for w, v in base.items() if (w, "swap") in ratios}
    lines += ["", "## 1. Primary: knowledge's optimum over code's, base arm", "",
              summary(base, "ratio"), "", from_own(base, errors)]  # fmt: skip
    lines += ["", "## 2. Control: ln ratio, swap less base (predicted below 0, about -.2)", ""]
    lines += [summary(both, "difference")] if both else ["No pair was complete."]
    if LATE in both:
        before = {w: d for w, d in both.items() if w != LATE}
        lines.append(f"World {LATE}'s swap was trained after the others had been read; "
                     f"without it: {summary(before, 'difference')}")  # fmt: skip
    for skill, wanted in (("knowledge", "fall"), ("code", "rise")):
        moved = {
            w: own[w, "swap", skill] - own[w, "base", skill] for w in both if (w, "swap") in ratios
        }
        if moved:
            step = EXCHANGED if wanted == "rise" else -EXCHANGED
            slopes = {w: d / step for w, d in moved.items()}
            lines.append(f"{skill}'s own optimum, predicted to {wanted}: "
                         + summary(moved, "difference") + " Per unit of its own share (not in "
                         + "the protocol): " + summary(slopes, "difference"))  # fmt: skip
    swapped = {w: v for (w, arm), v in ratios.items() if arm == "swap" and math.isfinite(v)}
    if swapped:
        lines.append("knowledge's optimum over code's in the swap arm, code 2.9 times knowledge "
                     "(not in the protocol): " + summary(swapped, "ratio"))  # fmt: skip
    return lines


def _ratio(log_ratio: float) -> str:
    return f"{math.exp(log_ratio):.2f}" if math.isfinite(log_ratio) else "none"


def summary(values: Mapping[int, float], kind: str) -> str:
    """Mean over worlds by Student's t, as the protocol fixes it."""
    x = np.array([v for v in values.values() if math.isfinite(v)])
    if len(x) < 2:
        shown = ", ".join(f"{v:+.3f}" for v in x)
        return f"{len(x)} world(s): {shown or 'none'}; no interval."
    mean, error = float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x)))
    half = float(student.ppf(0.95, len(x) - 1)) * error
    above = float(student.sf(-mean / error, len(x) - 1))
    low, high = mean - half, mean + half
    if kind == "ratio":
        verdict = "shown" if low > 0 or high < 0 else _weak(mean, half)
        return (f"**{math.exp(mean):.2f}, 90 % interval {math.exp(low):.2f} to "
                f"{math.exp(high):.2f}, P(ratio > 1) = {above:.3f}** over {len(x)} worlds: "
                f"{verdict}.")  # fmt: skip
    verdict = "below 0" if high < 0 else "above 0" if low > 0 else "undecided"
    return (f"**{mean:+.3f}, 90 % interval {low:+.3f} to {high:+.3f}, P(< 0) = {1 - above:.3f}** "
            f"over {len(x)} worlds: {verdict}.")  # fmt: skip


def from_own(values: Mapping[int, float], errors: Mapping[int, float]) -> str:
    """The same mean with the worlds' own errors: not in the protocol, and the sober reading.

    Few worlds can agree by luck, and their spread then says too little.
    """
    known = {w: v for w, v in values.items() if w in errors}
    if not known:
        return "No world has an interval of its own."
    ratio, low, high, above = over_worlds(known, errors)
    return (f"By the worlds' own intervals instead of their spread (not in the protocol): "
            f"{ratio:.2f}, 90 % interval {low:.2f} to {high:.2f}, "
            f"P(ratio > 1) = {above:.4f}.")  # fmt: skip


def over_worlds(
    logs: Mapping[int, float], errors: Mapping[int, float]
) -> tuple[float, float, float, float]:
    """Mean ratio over worlds, 90 % interval by the worlds' own errors, and P(ratio > 1)."""
    mean = float(np.mean(list(logs.values())))
    error = math.sqrt(sum(errors[w] ** 2 for w in logs)) / len(logs)
    low, high = (math.exp(mean + s * Z90 * error) for s in (-1, 1))
    return math.exp(mean), low, high, 0.5 * math.erfc(-mean / error / math.sqrt(2))


def _weak(mean: float, half: float) -> str:
    return "suggestive, not shown" if abs(mean) > 0.5 * half else "undecided"


def beside(table: pd.DataFrame) -> list[str]:
    """Point 3: other pairs, and the two halves, without a claim."""
    base = table[(table["arm"] == "base") & (table["status"] == "finished")]
    lines = ["", "## 3. Beside it, base arm, without a claim", ""]
    for one, other in (
        ("knowledge-qa", "code"),
        ("knowledge", "validation"),
        ("code", "validation"),
        ("knowledge-qa", "validation"),
    ):
        found = {}
        for world, rows in base.groupby("world", sort=False):
            ratio = contrast(fit_skills(rows), one, other).ratio
            found[int(world)] = math.log(ratio) if ratio > 0 else math.nan
        lines.append(f"* {one} over {other}: {summary(found, 'ratio')}")
    lines.append("")
    for world, rows in base.groupby("world", sort=False):
        own = rows[rows["skill"].isin(["validation", *CLASSES])]
        found = analyse("skills", Source(own, {}, CLASSES, "validation"), **HALVES)
        lines.append(f"World {world}, claims on one half and what the other says:")
        lines += ["", *(f"* {said}" for said in found.sentences()), ""]
    return lines


def learning_rates(path: Path) -> list[str]:
    """Point 4."""
    lines = ["", "## 4. Learning rate, world 6264, 1e11 FLOPs", ""]
    if not path.exists():
        return [*lines, "Not reached before the clock ended the run."]
    rows = pd.read_csv(path)
    lines += [
        "| params | seed | rate | validation | knowledge | code |",
        "|---|---|---|---|---|---|",
    ]
    off = []
    for (params, seed), group in rows.groupby(["params", "seed"]):
        loss = group.set_index("rate")["validation"]
        if len(loss) == 3 and loss[8e-3] - loss.min() > 0.05:
            off.append(f"{params} (seed {seed}: {loss.idxmin():g} is better)")
        lines += [
            f"| {row.params} | {row.seed} | {row.rate:g} | {row.validation:.3f} "
            f"| {row.knowledge:.3f} | {row.code:.3f} |"
            for row in group.itertuples()
        ]
    return [
        *lines,
        "",
        "Mistuned by more than .05 nats at: " + (", ".join(off) or "no size") + ".",
    ]


PAIRS = (
    ("knowledge", "python-source"),
    ("python-source", "code"),
    ("knowledge", "code"),
    ("knowledge", "validation"),
    ("code", "validation"),
    ("python-source", "validation"),
)


def python_source(table: pd.DataFrame) -> list[str]:
    """The addition: where the optimum of real code lies."""
    lines = ["", "## 5. Addition: Python source as a second code skill", ""]
    rows = table[(table["arm"] == "python") & (table["status"] == "finished")]
    if rows.empty:
        return [*lines, "No world of it has ended."]
    lines += ["| world | trials | skill | p* at 2e11, guarded | exponent (se) |",
              "|---|---|---|---|---|"]  # fmt: skip
    fits = {}
    for world, own in rows.groupby("world", sort=False):
        fits[int(world)] = found = fit_skills(own)
        for skill in ("knowledge", "code", "python-source", "validation"):
            law = found[skill].law
            size = f"{float(law(2e11)):,.0f}" if law.ok else str(law.status)
            slope = f"{law.exponent:.2f} ({law.exponent_se:.2f})" if law.ok else ""
            count = own["trial_id"].nunique()
            lines.append(f"| {world} | {count} | {skill} | {size} | {slope} |")
    lines += ["", "| ratio | " + " | ".join(f"world {w}, 90 %, parabolas" for w in fits)
              + " | over worlds, by their own intervals |",
              "|---" * (len(fits) + 2) + "|"]  # fmt: skip
    for one, other in PAIRS:
        logs, errors, cells = {}, {}, []
        for world, found in fits.items():
            pair = contrast(found, one, other)
            low, high = pair.interval
            plain = compare_skills(rows[rows["world"] == world], one, other).pooled
            if pair.ratio > 0 and low > 0 and math.isfinite(high):
                logs[world], errors[world] = math.log(pair.ratio), math.log(high / low) / 2 / Z90
            cells.append(f"{pair.ratio:.2f}, {low:.2f} to {high:.2f}, {_ratio(plain)}")
        cells.append(_pooled(logs, errors))
        lines.append(f"| {one} / {other} | " + " | ".join(cells) + " |")
    return lines


def _pooled(logs: Mapping[int, float], errors: Mapping[int, float]) -> str:
    """What the protocol calls the mean over worlds."""
    if not logs:
        return "none"
    ratio, low, high, above = over_worlds(logs, errors)
    said = "shown" if low > 1 or high < 1 else "undecided"
    return (f"{ratio:.2f}, {low:.2f} to {high:.2f}, P(> 1) = {above:.3f}, {len(logs)} worlds: "
            f"{said}")  # fmt: skip


if __name__ == "__main__":
    main()
