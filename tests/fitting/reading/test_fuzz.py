"""Headers and cells as people write them over a planted truth: never a silent wrong column."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from fitting import read_runs
from fitting.errors import TableError

CASES = 160
"""Of the 2,000 that benchmarks/reading.py goes through."""

READ = 0.97
"""Share of the cases that must be answered, not asked about."""

SIZES = (
    "params", "N", "n_params", "num_params", "Params", "parameters", "#params", "# parameters",
    "model_size", "Model Size", "param_count", "numParams", "nParams", "total_params",
    "model/params", "config.model.num_params", "n_parameters", "trainable_params", "size",
    "non_embedding_params", "Non-embedding parameters", "N (params)", "model parameters",
    "config/n_params", "params_total", "parameter count", "Trainable Parameters",
)  # fmt: skip
TOKENS = (
    "tokens", "D", "train_tokens", "training_tokens", "num_tokens", "n_tokens", "Tokens",
    "tokens_seen", "total tokens", "trainTokens", "Training Tokens", "consumed_tokens",
    "tokens seen", "config.data.train_tokens", "D (tokens)", "#tokens", "summary/tokens_seen",
    "token_count", "total_train_tokens",
)  # fmt: skip
FLOPS = (
    "flops", "C", "FLOPs", "compute", "compute_budget", "total_flops", "Training FLOPs",
    "train_flops", "trainFLOPs", "Total training compute", "flops_budget", "budget",
    "C (FLOPs)", "training_flop",
)  # fmt: skip
LOSSES = (
    "loss", "val_loss", "eval/loss", "validation loss", "Val. Loss", "eval_loss", "test_loss",
    "final_val_loss", "summary.eval/loss", "valLoss", "validation cross-entropy", "nll",
    "val_ce", "target_nll", "loss (nats)", "c4_loss", "eval/paloma/macro_loss", "loss/val",
    "Validation Loss (nats/token)", "lm loss", "metrics.val_loss", "val/nll", "heldout_loss",
)  # fmt: skip
DISTRACTORS: dict[str, Callable[[np.random.Generator, int], object]] = {
    "lr": lambda rng, n: rng.choice([1e-3, 3e-4], n),
    "learning_rate": lambda rng, n: [3e-4] * n,
    "batch_size": lambda rng, n: [256] * n,
    "n_layers": lambda rng, n: rng.integers(4, 40, n),
    "d_model": lambda rng, n: rng.integers(2, 40, n) * 64,
    "heads": lambda rng, n: rng.integers(4, 40, n),
    "tokens_per_sec": lambda rng, n: rng.uniform(1e4, 1e6, n),
    "tokens/s": lambda rng, n: rng.uniform(1e4, 1e6, n),
    "grad_norm": lambda rng, n: rng.uniform(0.1, 2, n),
    "mfu": lambda rng, n: rng.uniform(0.2, 0.5, n),
    "vocab_size": lambda rng, n: [50257] * n,
    "context_length": lambda rng, n: [2048] * n,
    "loss_scale": lambda rng, n: [65536.0] * n,
    "gpu_hours": lambda rng, n: rng.uniform(1, 500, n),
    "Runtime": lambda rng, n: rng.integers(1000, 9000, n),
    "train_loss": lambda rng, n: rng.uniform(2, 4, n),
    "train/loss": lambda rng, n: rng.uniform(2, 4, n),
    "embedding_params": lambda rng, n: rng.integers(1e6, 1e8, n),
    "warmup_tokens": lambda rng, n: [1e8] * n,
    "eval_tokens": lambda rng, n: [1e7] * n,
    "z_loss": lambda rng, n: rng.uniform(0, 0.1, n),
    "aux_loss": lambda rng, n: rng.uniform(0, 0.1, n),
    "val_loss_std": lambda rng, n: rng.uniform(0, 0.01, n),
    "hellaswag_acc": lambda rng, n: rng.uniform(0.2, 0.8, n),
    "flops_per_token": lambda rng, n: rng.uniform(1e8, 1e10, n),
    "tflops_per_gpu": lambda rng, n: rng.uniform(100, 400, n),
    "optimizer": lambda rng, n: ["adamw"] * n,
    "Notes": lambda rng, n: [""] * n,
    "Created": lambda rng, n: ["2026-01-01T10:00:00"] * n,
    "user": lambda rng, n: ["ada"] * n,
    "cost": lambda rng, n: rng.uniform(1, 900, n),
    "unnamed notes": lambda rng, n: ["ok then"] * n,
}


def _plain(v: float) -> str:
    return repr(float(v))


def _scaled(v: float) -> str:
    for suffix, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if v >= size:
            return f"{v / size:.5g}{suffix}"
    return f"{v:.6g}"


COUNTS: tuple[Callable[[float], str], ...] = (
    _plain,
    _scaled,
    lambda v: _scaled(v).replace("B", " billion").replace("M", " million").replace("T", "T"),
    lambda v: f"{v:,.0f}",
    lambda v: f"{v:.5e}",
    lambda v: f"~{_scaled(v)}",
    lambda v: f"{v:_.0f}",
    lambda v: "{}×10^{}".format(*f"{v:.5e}".split("e+")),
    lambda v: _scaled(v).replace("M", " M").replace("B", " B"),
)
LOSS_CELLS: tuple[Callable[[float], str], ...] = (
    _plain,
    lambda v: f"{v:.5f}",
    lambda v: f"**{v:.5f}**",
    lambda v: f"{v:.5f} ± 0.01",
    lambda v: f" {v:.5f} ",
)
UNITS = {" (B)": 1e9, " (M)": 1e6, " [B]": 1e9, " in millions": 1e6, " (billions)": 1e9}


def truth(rng: np.random.Generator) -> pd.DataFrame:
    """Three budgets of five sizes, on a known surface."""
    flops = np.repeat(np.array([1e18, 1e19, 1e20]) * rng.uniform(0.3, 3), 5)
    params = np.round((flops / 120) ** 0.5 * np.tile(np.geomspace(0.2, 5, 5), 3))
    tokens = np.round(flops / 6 / params)
    loss = 1.7 + 400 / params**0.34 + 410 / tokens**0.28 + 0.001 * rng.normal(size=15)
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss,
                         "flops": 6 * params * tokens})  # fmt: skip


def _written(rng: np.random.Generator, header: str, values: pd.Series) -> tuple[str, list[str]]:
    """A count's header and cells."""
    if rng.random() < 0.2 and "(" not in header and "." not in header:
        unit = str(rng.choice(list(UNITS)))
        return header + unit, [f"{v / UNITS[unit]:.8g}" for v in values]
    form = COUNTS[rng.integers(len(COUNTS))]
    return header, [form(v) for v in values]


def _case(rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The truth, the table as somebody has it, and which amounts it holds."""
    real = truth(rng)
    held = ["params", "tokens"] if rng.random() < 0.6 else ["flops", "params"]
    held = ["flops", "params", "tokens"] if rng.random() < 0.3 else held
    names = {"params": SIZES, "tokens": TOKENS, "flops": FLOPS}
    columns: dict[str, object] = {}
    for role in held:
        header, cells = _written(rng, str(rng.choice(names[role])), real[role])
        columns[header] = cells
    form = LOSS_CELLS[rng.integers(len(LOSS_CELLS))]
    columns[str(rng.choice(LOSSES))] = [form(v) for v in real["loss"]]
    for name in rng.choice(list(DISTRACTORS), rng.integers(0, 7), replace=False):
        columns.setdefault(str(name), DISTRACTORS[str(name)](rng, len(real)))
    given = pd.DataFrame(columns)
    return real, given[list(rng.permutation(given.columns))], held


def _file(rng: np.random.Generator, given: pd.DataFrame, folder: Path) -> Path:
    """One of the forms in which tables are kept."""
    kind = rng.integers(5)
    path = folder / ("runs.csv", "runs.tsv", "runs.json", "runs.jsonl", "runs.md")[kind]
    if kind == 0:
        text = given.to_csv(index=False)
    elif kind == 1:
        text = given.to_csv(index=False, sep="\t")
    elif kind == 2:
        text = json.dumps(given.astype(str).to_dict(orient="list"))
    elif kind == 3:
        buffer = io.StringIO()
        given.to_json(buffer, orient="records", lines=True)
        text = buffer.getvalue()
    else:
        rows = [list(given.columns), ["---"] * len(given.columns), *given.astype(str).to_numpy()]
        text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def read_cases(seed: int, cases: int, folder: Path) -> list[tuple[list[str], str]]:
    """Read so many tables, compare with the truth, and return those that were asked about."""
    rng = np.random.default_rng(seed)
    asked = []
    for _ in range(cases):
        real, given, held = _case(rng)
        try:
            seen = read_runs(_file(rng, given, folder))
        except TableError as error:
            assert "--columns" in str(error), error
            asked.append((list(given.columns), str(error)))
            continue
        assert len(seen.table) == len(real), (given, seen.notes)
        for role in (*held, "loss"):
            np.testing.assert_allclose(
                seen.table[role], real[role], rtol=2e-4, err_msg=f"{role}: {seen.line}\n{given}"
            )
    return asked


def test_headers_and_cells_are_read_right_or_asked_about(tmp_path: Path) -> None:
    asked = read_cases(0, CASES, tmp_path)
    assert len(asked) <= (1 - READ) * CASES, asked
