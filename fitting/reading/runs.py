"""From a source to the contract's table, with every choice, exclusion and doubt said.

Legend: C = flops, N or p = params, D or t = tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.errors import TableError
from fitting.reading import recognise
from fitting.reading.checkpoints import Logs, find_logs
from fitting.reading.columns import choose
from fitting.reading.conditions import kept_rows
from fitting.reading.doubts import absurd, accuracies, doubts, loss_unit, named_again
from fitting.reading.numbers import numbers
from fitting.reading.pivot import unpivoted
from fitting.reading.reasons import (
    left_out,
    mark,
    mark_numbers,
    mark_status,
    mark_summaries,
    tells_endings,
)
from fitting.reading.sources import Source, load
from fitting.reading.terms import HELPERS, Asked, Choice, Term
from fitting.reading.text import Raw
from fitting.reading.units import repaired
from fitting.reading.words import AMOUNTS
from fitting.values import FLOPS_PER_PARAM_TOKEN, number

_ORDER = ("params", "tokens", "flops")  # as a reader looks for them

_DERIVED = {
    "flops": "6 params tokens",
    "tokens": "flops/(6 params)",
    "params": "flops/(6 tokens)",
}


@dataclass(frozen=True)
class Runs:
    """Somebody's runs as the contract's table.

    Attributes:
        table: one row per (trial, skill): flops, params, tokens, skill, loss, mix, and trial_id,
            seed where known; separate experiments (data set, tokenizer, recipe) are told apart by
            ``mix``. The index is that of the source, counted from 0.
        read: column or formula taken for loss, params, tokens, flops and skill; ``units`` (factor
            by which a column was multiplied), ``loss_unit``, ``tokenizers``, ``ignored`` columns.
        excluded: rows left out, columns row, trial_id, skill, reason.
        notes: what a reader should know before trusting a fit.
    """

    table: pd.DataFrame
    read: Mapping[str, Any]
    excluded: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """What was read, in one line."""
        read = self.read
        taken = [f"{role} = {_written(role, read)}" for role in ("loss", *_ORDER)
                 if read[role] is not None and read[role] != _DERIVED.get(role)]  # fmt: skip
        derived = [f"{r} from {read[r]}" for r in _ORDER if read[r] == _DERIVED[r]]
        skills = self.table["skill"].nunique()
        parts = [", ".join([*taken, *derived])]
        if read["skill"] is not None:
            parts.append(f"skill = {read['skill']} ({skills})")
        elif skills > 1:
            parts.append(f"skills: {skills} columns")
        if read.get("mix"):
            parts.append(f"separate experiments by {read['mix']} ({self.table['mix'].nunique()})")
        ignored = read["ignored"]
        if ignored:
            more = f" and {len(ignored) - 8} more" if len(ignored) > 8 else ""
            parts.append(f"ignored: {', '.join(ignored[:8])}{more}")
        return "; ".join(parts)


def read_runs(
    source: Source,
    columns: Asked | None = None,
    *,
    where: str = "",
) -> Runs:
    """Read anybody's table of runs.

    Args:
        source: DataFrame (pandas, polars, pyarrow), mapping of columns, list of records, path
            (CSV and its relatives, Parquet, JSON, YAML, Markdown, Excel; compressed or not), "-"
            for stdin, a log directory of TensorBoard, or ``wandb:ENTITY/PROJECT``,
            ``mlflow:URI#EXPERIMENT``, ``tensorboard:DIR``, ``hf:ID``.
        columns: role to column where the rules would choose another, e.g. ``{"loss":
            "eval/loss"}``; also an expression (``log(ppl)``, ``1-acc``, ``steps*batch*2048``), a
            number that holds for every row, ``none``, or for the loss a list of columns (skills).
        where: rows to keep, e.g. "epochs<=4,tokenizer=32k".

    Raises:
        TableError: nothing is there, a column is missing or could be two things, or the numbers
            are no counts or no losses; the message says what to type.
    """
    raw = load(source)
    raw = replace(raw, frame=unpivoted(raw.frame, columns))
    return tabulate(kept_rows(raw, where), columns)


def tabulate(raw: Raw, columns: Asked | None, *, recognised: bool = True) -> Runs:
    """The contract's table of a raw one.

    Args:
        columns: see `read_runs`.
        recognised: also look for checkpoints, experiments, grids and units.

    Raises:
        TableError: see `read_runs`.
    """
    if raw.frame.empty:
        raise TableError("the table has no rows")
    choice = choose(raw.frame, columns, decimal=raw.decimal)
    return _Reader(raw, choice, recognised=recognised, asked="loss" in (columns or ())).runs()


class _Reader:
    """One reading: the raw table, the choice of columns, and what is left out on the way."""

    def __init__(self, raw: Raw, choice: Choice, *, recognised: bool, asked: bool) -> None:
        self.raw, self.choice, self.recognised, self.asked = raw, choice, recognised, asked
        self.frame = raw.frame
        self.index = raw.frame.index
        self.notes = [*raw.notes, *choice.notes]
        self.units: dict[str, float] = {}
        lines = pd.DataFrame(index=[line for line, _ in raw.rejected])
        self.out = [left_out(lines, [reason for _, reason in raw.rejected])]
        self.mix_columns: str | None = choice.labels.get("mix")
        self.named = "trial_id" in choice.labels

    def runs(self) -> Runs:
        """All steps, in order."""
        wide = self._wide()
        wide = wide[self._usable(wide)]
        rows = self._long(wide)
        if rows.empty:
            excluded = self._excluded()
            first = excluded["reason"].iloc[0] if len(excluded) else "no loss"
            term = next(iter(self.choice.losses.values()))
            turned = f" (a log likelihood? --columns 'loss=0-{term.column}')"
            raise TableError(
                f"no usable row: all {len(self.frame)} are excluded, the first: {first}"
                f"{turned if first.startswith('loss is not positive: -') else ''}"
            )
        rows = self._complete(rows)
        if self.recognised:
            rows = self._without(rows, absurd(rows), "loss is above that of guessing: diverged?")
            rows = self._without_copies(rows)
            rows = self._without_worse(rows)
            rows = self._separated(rows)
            rows = self._best_of_grids(rows)
            rows = rows if self.asked else self._without_accuracies(rows)
            self.notes += doubts(rows, self.frame, self.choice)
        return Runs(self._table(rows), self._read(rows), self._excluded(), tuple(self.notes))

    # --- columns ---

    def _wide(self) -> pd.DataFrame:
        """Amounts and labels, one row per row of the source, with its position."""
        wide = pd.DataFrame({"at": np.arange(len(self.frame))})
        for role, term in self.choice.amounts.items():
            wide[role] = term.values(self.frame, self.raw.decimal)
        for role, column in self.choice.labels.items():
            cells = self.frame[column]
            if role in HELPERS:
                wide[role] = numbers(cells, decimal=self.raw.decimal)
            elif role != "trial_id":
                wide[role] = cells.to_numpy()
        if self.recognised:
            amounts = {n: wide[n].to_numpy(float) for n in AMOUNTS if n in wide}
            headers = {r: str(t) for r, t in self.choice.amounts.items()}
            self.units, said = repaired(amounts, headers)
            self.notes += said
            for name, unit in self.units.items():
                wide[name] *= unit
        self._name_runs(wide)
        return wide

    def _name_runs(self, wide: pd.DataFrame) -> None:
        """The identity of each row's run, where a column gives it."""
        asked = self.choice.labels.get("trial_id")
        if asked is None and "params" in wide:
            asked = recognise.identity(
                self.frame, wide["params"].to_numpy(float), self.choice.identities
            )
        elif asked is None and self.choice.identities:
            asked = self.choice.identities[0]
        if asked is not None:
            self.choice.labels["trial_id"] = asked
            wide["trial_id"] = self.frame[asked].to_numpy()

    # --- rows ---

    def _usable(self, wide: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Rows whose amounts and status let them count; the others are listed."""
        bad = np.full(len(wide), "", dtype=object)
        mark_summaries(bad, self.frame)
        for role in AMOUNTS:
            if role in wide:
                column = self.choice.amounts[role].column
                mark_numbers(bad, role, wide[role].to_numpy(float), self.frame.get(column))
        endings = [self.frame[name] for name in self.choice.endings]
        known = [status for status in endings if tells_endings(status)]
        for status in known:
            mark_status(bad, status)
        if endings and not known:
            said = f"{self.choice.endings[0]} says nothing known of how runs ended: not used"
            self.notes.append(said)
        if "skill" in wide:
            mark(bad, pd.isna(wide["skill"]).to_numpy(), "skill is missing")
        gone = np.flatnonzero(bad != "")
        self._leave_out(wide.iloc[gone], list(bad[gone]))
        return np.asarray(bad == "")

    def _long(self, wide: pd.DataFrame) -> pd.DataFrame:
        """One row per (row, loss): the last checkpoint of each run, without missing losses."""
        logs = None
        if self.recognised and len(wide):
            logs = find_logs(self._complete(wide), trusted=self.named)
        parts = [self._of_loss(wide, name, term, logs)
                 for name, term in self.choice.losses.items()]  # fmt: skip
        return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]

    def _of_loss(
        self, wide: pd.DataFrame, name: str, term: Term, logs: Logs | None
    ) -> pd.DataFrame:
        """The rows of one loss that count; the others are listed."""
        loss = term.values(self.frame, self.raw.decimal)[wide["at"].to_numpy()]
        bad = np.full(len(wide), "", dtype=object)
        cells = self.frame[term.column].iloc[wide["at"]]
        mark_numbers(bad, "loss", loss, cells, positive=term.how != "log")
        rows = wide.assign(loss=loss)
        if name or "skill" not in rows:
            rows = rows.assign(skill=name or "loss")
        good = bad == ""
        keep = good if logs is None else logs.last(good)
        if logs is not None and keep.sum() < good.sum():
            bad[logs.is_log & (bad == "loss is missing")] = ""  # lines of a log without one
            gone, said = logs.dropped(good, keep)
            self._leave_out(rows.iloc[gone], said)
            note = (
                f"{good.sum() - keep.sum()} of {good.sum()} rows are earlier checkpoints of the "
                f"same runs: the last of each is kept ({keep.sum()})"
            )
            self.notes += [] if note in self.notes else [note]
        refused = np.flatnonzero(bad != "")
        self._leave_out(rows.iloc[refused], list(bad[refused]))
        return rows[keep].reset_index(drop=True)

    def _complete(self, rows: pd.DataFrame) -> pd.DataFrame:
        """With the third of flops, params and tokens."""
        if "flops" not in rows:
            return rows.assign(flops=FLOPS_PER_PARAM_TOKEN * rows["params"] * rows["tokens"])
        if "tokens" not in rows:
            return rows.assign(tokens=rows["flops"] / (FLOPS_PER_PARAM_TOKEN * rows["params"]))
        if "params" not in rows:
            return rows.assign(params=rows["flops"] / (FLOPS_PER_PARAM_TOKEN * rows["tokens"]))
        return rows

    def _free(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Columns of the source that nothing was taken from, for these rows."""
        taken = self.choice.used() | set(self.choice.identities)
        free = [c for c in self.frame.columns if c not in taken]
        return self.frame[free].iloc[rows["at"]].set_axis(rows.index)

    def _without_copies(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Without rows that say in every cell what one above says: a training pasted twice.

        Two trainings may agree in a loss of three digits behind the point, not in a finer one.
        """
        fine = np.abs(rows["loss"] * 1e3 - (rows["loss"] * 1e3).round()) > 1e-6
        again = rows[[*AMOUNTS, "skill", "loss"]].duplicated(keep=False) & fine
        if "trial_id" in rows or not again.any():
            return rows
        at = rows.loc[again, "at"].unique()
        copies = at[self.frame.iloc[at].astype("str").duplicated().to_numpy()]
        copied = rows["at"].isin(copies)
        return self._without(rows, copied, "the same as a row above in every cell: counted once")

    def _without_worse(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Without the worse attempts at trainings that were run again."""
        label = self.choice.labels.get("trial_id")
        for column in dict.fromkeys([*([label] if label else []), *self.choice.identities]):
            names = self.frame[column].iloc[rows["at"]].set_axis(rows.index)
            worse, said = recognise.attempts(rows, names)
            self.notes += [said] if said else []
            rows = self._without(rows, worse, "a worse attempt at a training that ran again")
        return rows

    def _without_accuracies(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Without skills whose figures rise with compute as accuracies do."""
        names, said = accuracies(rows, self.choice)
        self.notes += said
        self.choice.losses = {n: t for n, t in self.choice.losses.items() if n not in names}
        out = rows["skill"].isin(names)
        named = "" in self.choice.losses  # by a column of skills; a column's own is ignored
        return self._without(rows, out, "an accuracy, not a loss") if named else rows[~out]

    def _without(
        self, rows: pd.DataFrame, out: pd.Series | npt.NDArray[np.bool_], reason: str
    ) -> pd.DataFrame:
        """Without some rows, which are listed with the reason."""
        self._leave_out(rows[out], [reason] * int(out.sum()))
        return rows[~out]

    def _separated(self, rows: pd.DataFrame) -> pd.DataFrame:
        """With ``mix`` telling separate experiments apart."""
        key = rows.groupby(["params", "tokens", "skill"], sort=False).ngroup().to_numpy()
        found = recognise.experiments(self._free(rows), key)
        if found is None:
            return rows
        label, names = found
        mixed = "mix" in rows and rows["mix"].nunique() > 1
        self.mix_columns = ", ".join([*([str(self.mix_columns)] if mixed else []), *names])
        first = f"{names[0]}={self.frame[names[0]].iloc[rows['at'].iloc[0]]}"
        self.notes.append(
            f"the table holds {label.nunique()} separate experiments, told apart by "
            f"{', '.join(names)}: fitted apart. One alone: --where '{first}'"
        )
        return rows.assign(mix=rows["mix"].astype("str") + " " + label if mixed else label)

    def _best_of_grids(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Without the worse settings of a hyperparameter grid."""
        keep, said = recognise.best_of_grid(self._free(rows), rows)
        if keep is None:
            return rows
        self.notes.append(said)
        return self._without(rows, ~keep, "a worse setting of the same size and tokens")

    # --- results ---

    def _table(self, rows: pd.DataFrame) -> pd.DataFrame:
        """In the contract's columns, under the source's index."""
        table = rows[[*AMOUNTS, "skill", "loss"]].copy()
        table["skill"] = table["skill"].astype("str")
        if "trial_id" in rows:
            again = rows.duplicated([c for c in ("trial_id", "skill", "mix") if c in rows])
            again &= rows["trial_id"].notna()
            if again.mean() < 0.2 or not self.recognised:  # else a label of sizes, not of runs
                table["trial_id"] = rows["trial_id"]
            else:
                self.choice.labels.pop("trial_id")
                self.notes += named_again(rows, "all count, as repeats")
        if "trial_id" not in table and len(self.choice.losses) > 1:
            table["trial_id"] = self.index[rows["at"]]
        table["seed"] = rows["seed"] if "seed" in rows else pd.NA
        table["mix"] = rows["mix"].fillna("") if "mix" in rows else ""
        return table.set_axis(self.index[rows["at"]])

    def _read(self, rows: pd.DataFrame) -> dict[str, Any]:
        """What was taken from where."""
        choice = self.choice
        terms = list(choice.losses.values())
        units = {role: term.number * self.units.get(role, 1.0)
                 for role, term in choice.amounts.items() if term.how == "times"}  # fmt: skip
        constant = {r: f"{t.number:g}" for r, t in choice.amounts.items() if t.how == "constant"}
        used = choice.used() | set((self.mix_columns or "").split(", "))
        return {
            "loss": str(terms[0]) if len(terms) == 1 else [t.column for t in terms],
            **{r: constant.get(r) or (str(choice.amounts[r]) if r in choice.amounts
                                      else _DERIVED[r]) for r in AMOUNTS},
            "skill": choice.labels.get("skill"),
            "trial_id": choice.labels.get("trial_id"),
            "mix": self.mix_columns if "mix" in rows and rows["mix"].nunique() > 1 else None,
            "units": {role: unit for role, unit in units.items() if unit != 1},
            "loss_unit": loss_unit(choice),
            "tokenizers": recognise.tokenizers(self.frame),
            "ignored": [str(c) for c in self.frame.columns if c not in used],
        }  # fmt: skip

    def _leave_out(self, rows: pd.DataFrame, reasons: list[str]) -> None:
        self.out += [left_out(rows.set_axis(self.index[rows["at"]]), reasons)] if reasons else []

    def _excluded(self) -> pd.DataFrame:
        return pd.concat(self.out, ignore_index=True).infer_objects()


def _written(role: str, read: Mapping[str, Any]) -> str:
    """A role's column with its unit."""
    column, unit = read[role], read["units"].get(role)
    if isinstance(column, list):
        return ", ".join(column[:4]) + (f" and {len(column) - 4} more" if len(column) > 4 else "")
    return f"{column} × {number(unit)}" if unit else str(column)
