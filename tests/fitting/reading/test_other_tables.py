"""Tables as people write them, each with one thing that was once read wrongly."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fitting.errors import TableError
from fitting.reading.observations import Observations, prepare
from fitting.reading.runs import read_runs
from fitting.reading.terms import parse_columns

BUDGETS = (1e18, 3e18, 1e19, 3e19)


def pool() -> pd.DataFrame:
    """Seven sizes on four budgets, 28 runs."""
    rows = []
    for flops in BUDGETS:
        for factor in np.geomspace(0.25, 4, 7):
            n = round(0.9 * (flops / 120) ** 0.5 * factor, -4)
            d = flops / 6 / n
            rows.append((flops, n, d, round(1.7 + 400 / n**0.34 + 410 / d**0.28, 4)))
    return pd.DataFrame(rows, columns=["flops", "params", "tokens", "loss"])


RUNS = pool()
SIZED = RUNS[["params", "tokens", "loss"]]


def seen(table: pd.DataFrame | Path) -> Observations:
    return prepare(read_runs(table))


def same(found: Observations, expected: pd.DataFrame = RUNS) -> None:
    """The runs of the pool, whatever they were written as."""
    columns = ["flops", "params", "tokens", "loss"]
    ours, theirs = (t[columns].sort_values(["loss", "params"]) for t in (found.frame, expected))
    np.testing.assert_allclose(ours.to_numpy(float), theirs.to_numpy(float), rtol=2e-3)


def write(folder: Path, text: str, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "beside",
    "chinchilla_loss predicted_loss initial_loss reducible_loss loss_ema weighted_loss max_loss "
    "log10(loss) exp(loss) quant_bits num_bits bits_per_param loss_sem c4 loss_at_init".split(),
)
def test_a_figure_beside_the_loss_is_not_taken_for_it(beside: str) -> None:
    found = read_runs(SIZED.assign(**{beside: SIZED["loss"] / 4}))
    assert found.read["loss"] == "loss"


@pytest.mark.parametrize(
    "name",
    "total_loss loss_total fwd_loss eval/total_loss nats/token Loss¹ L(N,D) log_ppl "
    "ln(PPL)".split(),
)
def test_a_loss_by_another_name(name: str) -> None:
    same(seen(SIZED.rename(columns={"loss": name})))


def test_one_unknown_loss_beside_a_plain_one_is_asked_about() -> None:
    with pytest.raises(TableError, match=r"could each be the loss.*loss=loss,loss=wiki_loss"):
        read_runs(SIZED.assign(wiki_loss=SIZED["loss"]))
    several = SIZED.assign(wiki_loss=SIZED["loss"], code_loss=SIZED["loss"])
    assert read_runs(several).table["skill"].nunique() == 2


@pytest.mark.parametrize(
    ("role", "name", "unit"),
    [
        ("flops", "flops_e18", 1e18),
        ("flops", "flops (10**18)", 1e18),
        ("flops", "FLOPs x 10^18", 1e18),
        ("flops", "throughput/total_training_Gflops", 1e9),
        ("flops", "total_flos", 1.0),
        ("tokens", "num_input_tokens_seen", 1.0),
        ("tokens", "tokens (GT)", 1e9),
        ("tokens", "B tokens", 1e9),
        ("params", "Mparams", 1e6),
        ("params", "Params<br>(M)", 1e6),
    ],
)
def test_amounts_by_names_in_use(role: str, name: str, unit: float) -> None:
    columns = ["params", "loss", role] if role != "params" else ["tokens", "loss", role]
    table = RUNS[columns].assign(**{role: RUNS[role] / unit})
    same(seen(table.rename(columns={role: name})))


def test_amounts_that_are_logarithms_are_raised() -> None:
    table = np.log10(RUNS[["params", "flops"]]).add_prefix("log10_").assign(loss=RUNS["loss"])
    found = read_runs(table)
    same(prepare(found))
    assert found.read["flops"] == "10^log10_flops"
    odd = table.rename(columns={"log10_flops": "lf"})
    same(prepare(read_runs(odd, parse_columns("flops=10^lf"))))


@pytest.mark.parametrize("name", ["budget ($)", "compute_cost"])
def test_money_is_not_flops(name: str) -> None:
    same(seen(SIZED.assign(**{name: RUNS["flops"] / 7.2e17})))


def test_numbers_of_budgets_are_not_flops() -> None:
    same(seen(SIZED.assign(budget=np.repeat([1, 2, 3, 4], 7))))


def test_millions_above_counts_are_a_label() -> None:
    table = SIZED.rename(columns={"params": "params (M)"})
    same(seen(table))


def test_one_cell_without_its_scale_has_the_others() -> None:
    cells = [f"{p / 1e6:g}M" for p in SIZED["params"]]
    cells[5] = cells[5].rstrip("M")
    same(seen(SIZED.assign(params=cells)))


def test_tokens_from_steps_of_sequences() -> None:
    steps = RUNS["tokens"] / 256 / 2048
    table = RUNS[["params", "loss"]].assign(batch_size=256, seq_len=2048, max_steps=steps)
    same(seen(table))


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("status", "good", "diverged"),
        ("status", "valid", "diverged at step 3k"),
        ("status", "✅ done", "❌ OOM"),
        ("status", "yes", "no"),
        ("status", "1", "0"),
        ("status", "0", "1"),
        ("status", "100%", "43%"),
        ("exit_code", "0", "137"),
        ("Exit Status", "0", "137"),
        ("finished", "True", "False"),
        ("diverged", "no", "yes"),
        ("diverged", "False", "True"),
        ("has_diverged", "False", "True"),
        ("is_failed", "0", "1"),
        ("exclude", "no", "yes"),
        ("is_final", "True", "False"),
        ("outcome", "success", "diverged"),
        ("progress", "100%", "43%"),
        ("progress", "1.0", "0.43"),
        ("% done", "100", "43"),
        ("ok?", "✅", "❌"),
        ("converged", "yes", "no"),
        ("include", "1", "0"),
        ("outlier", "False", "True"),
        ("job_state", "COMPLETED", "PREEMPTED"),
        ("Comment", "with muon", "diverged, restarted"),
        ("notes", "", "NaN at step 900"),
        ("notes", "", "loss diverged"),
        ("notes", "", "ran out of memory"),
        ("issues", "", "CUDA OOM"),
        ("error", "", "OOM at step 300"),
        ("error", "none", "RuntimeError: no space left"),
        ("error", "False", "True"),
        ("error_message", "", "killed"),
        ("fail reason", "", "hit the time limit"),
        ("diverged?", "", "at 3k"),
        ("termination", "completed", "walltime"),
    ],
)
def test_words_for_how_runs_ended(name: str, good: str, bad: str, tmp_path: Path) -> None:
    failed = RUNS.iloc[:2].assign(loss=9.0)
    table = pd.concat([RUNS, failed]).assign(**{name: [good] * 28 + [bad] * 2})
    path = tmp_path / "runs.csv"
    table.to_csv(path, index=False)
    found = seen(path)
    same(found)
    assert len(found.excluded) == 2 and found.excluded["reason"].str.contains("is '").all()


def test_all_columns_that_say_how_runs_ended_count() -> None:
    failed = RUNS.iloc[:2].assign(loss=9.0, diverged=True)
    table = pd.concat([RUNS.assign(diverged=False), failed], ignore_index=True)
    same(seen(table.assign(State="finished")[["State", *table]]))


@pytest.mark.parametrize("words", [("fine-tuned", "from scratch"), ("3", "7"), ("CA", "no")])
def test_columns_that_say_nothing_of_endings_leave_no_row_out(words: tuple[str, str]) -> None:
    state = [words[0]] * 27 + [words[1]]
    assert len(seen(RUNS.assign(state=state)).frame) == (27 if "no" in words else 28)


@pytest.mark.parametrize("cells", [0.01, "±0.01", "cross entropy", [0, 1, 2, 0] * 7])
def test_errors_that_are_figures_or_in_every_row_leave_none_out(cells: object) -> None:
    found = read_runs(SIZED.assign(error=cells))
    assert len(found.table) == 28 and found.read["ignored"] == ["error"]


def test_rows_that_sum_up_others_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    pd.concat([RUNS, RUNS.describe()]).to_csv(path)
    found = seen(path)
    same(found)
    assert found.excluded["reason"].str.startswith("a summary or prediction").sum() == 8
    best = RUNS.assign(run=["best", *(f"run {i}" for i in range(27))])
    same(seen(best[["run", *RUNS]]))
    twice = pd.concat([best.iloc[1:], RUNS.iloc[[3]].assign(run="best")], ignore_index=True)
    assert seen(twice[["run", *RUNS]]).excluded["row"].tolist() == [27]
    mean = pd.concat([RUNS, RUNS.iloc[:1]]).assign(run=[f"r{i}" for i in range(28)] + ["mean"])
    same(seen(mean.reset_index(drop=True)))
    for name in ("Best run", "overall best", "Σ", "Subtotal", "predicted"):
        other = twice.assign(run=twice["run"].replace("best", name))[["run", *RUNS]]
        assert seen(other).excluded["row"].tolist() == [27]
    noted = pd.concat([RUNS, RUNS.mean().to_frame().T]).assign(notes=[""] * 28 + ["mean"])
    same(seen(noted.reset_index(drop=True)))
    names = ["best_of_two" if i % 9 == 0 else "plain" for i in range(28)]
    same(seen(RUNS.assign(kind=names)[["kind", *RUNS]]))


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_a_last_row_that_sums_up_without_a_name_is_left_out(how: str) -> None:
    last = RUNS.agg(how).to_frame().T.round(3)
    found = seen(pd.concat([RUNS, last], ignore_index=True).assign(lr=3e-4))
    same(found)
    assert found.excluded["reason"].iloc[0].endswith(f"{how!r}")


@pytest.mark.parametrize("figure", [999.0, 1e9, 25.0])
def test_losses_above_guessing_in_a_few_rows_are_none(figure: float) -> None:
    found = seen(pd.concat([RUNS, RUNS.iloc[:2].assign(loss=figure)], ignore_index=True))
    same(found)
    assert found.excluded["reason"].str.startswith("loss is above that of guessing").all()


def test_extrapolated_rows_are_no_runs() -> None:
    last = RUNS.iloc[-2:].assign(tokens=1e12, flops=6e12 * RUNS["params"], type="extrapolated")
    same(seen(pd.concat([RUNS.assign(type="measured"), last], ignore_index=True)))


def test_a_row_that_contradicts_all_others_is_left_out() -> None:
    table = RUNS.copy()
    table.loc[5, "flops"] *= 1e6
    found = seen(table)
    same(found, RUNS.drop(5))
    assert "times in the other rows" in found.excluded["reason"].iloc[0]


def test_the_remedy_names_the_column() -> None:
    table = RUNS.assign(flops=RUNS["flops"] / 3).rename(columns={"flops": "C"})
    with pytest.raises(TableError, match=r"--columns flops=C\*3\)"):
        seen(table)
    same(prepare(read_runs(table, parse_columns("flops=C*3"))))


@pytest.mark.parametrize("cell", ["2.79 or so", "2.79/2.80"])
def test_cells_that_are_no_numbers_are_shown(cell: str) -> None:
    with pytest.raises(TableError, match=f"column 'loss' holds no numbers but .*'{cell}'"):
        seen(SIZED.assign(loss=cell))


@pytest.mark.parametrize("column", ["n_experts", "use_muon", "cooldown"])
def test_settings_divide_a_table(column: str) -> None:
    other = SIZED.assign(loss=SIZED["loss"] + 0.2)
    values = (False, True) if column == "cooldown" else (1, 8)
    parts = [t.assign(**{column: v}) for t, v in zip((SIZED, other), values, strict=True)]
    assert len(seen(pd.concat(parts)).skills) == 2


def test_accuracies_called_loss_are_asked_about() -> None:
    with pytest.raises(TableError, match=r"rises with compute.*loss=1-loss"):
        seen(SIZED.assign(loss=1.2 - SIZED["loss"] / 4))


def test_a_skill_in_sums_beside_one_per_token_is_named() -> None:
    sums = SIZED.assign(loss=SIZED["loss"] * 50, skill="facts")
    found = seen(pd.concat([SIZED.assign(skill="code"), sums]))
    assert any(note.startswith("facts: losses above that of guessing") for note in found.warnings)


def test_a_seed_of_its_own_is_no_duplicate_and_of_a_resumed_run_the_last_row_counts() -> None:
    named = SIZED.assign(run=[f"r{i}" for i in range(28)], seed=0)
    assert len(seen(pd.concat([named, named.iloc[:3].assign(seed=1)])).frame) == 31
    early = named.iloc[:3].assign(loss=3.9)
    same(seen(pd.concat([early, named], ignore_index=True)))


def test_remarks_that_speak_of_no_break_leave_no_row_out() -> None:
    remarks = ["no warmup", "bad seed?", "finished late", "running mean of 3"] * 7
    found = read_runs(RUNS.assign(notes=remarks))
    assert len(found.table) == 28 and found.read["ignored"] == ["notes"] and not found.notes


def test_sizes_at_the_same_token_counts_may_be_checkpoints_and_can_be_said_to_be() -> None:
    params = np.repeat(np.geomspace(7e7, 1.4e9, 5), 4)
    tokens = np.tile([2e9, 16e9, 64e9, 300e9], 5)
    loss = 1.7 + 400 / params**0.34 + 410 / tokens**0.28
    table = pd.DataFrame({"params": params, "tokens": tokens, "loss": loss})
    table["model"] = [f"pythia-{p / 1e6:.0f}m" for p in params]
    for given in (table, table.rename(columns={"model": "run_id"})):
        found = read_runs(given)
        assert len(found.table) == 20 and "--columns 'trial_id=params'" in found.notes[0]
        last = read_runs(given, {"trial_id": "params"})
        assert list(last.table["tokens"]) == [300e9] * 5
    assert not read_runs(table.assign(run=range(20))).notes


def checkpoints(share: list[float]) -> pd.DataFrame:
    """Rows of each run at shares of its tokens, the loss higher before the end."""
    parts = [SIZED.assign(tokens=SIZED["tokens"] * s, loss=SIZED["loss"] + 1 - s) for s in share]
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def test_checkpoints_with_the_newest_first() -> None:
    log = checkpoints([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    same(seen(log))


def test_checkpoints_sorted_by_step() -> None:
    log = checkpoints([0.2, 0.4, 0.6, 0.8, 1.0])
    share = np.tile([0.2, 0.4, 0.6, 0.8, 1.0], 28)
    same(seen(log.iloc[np.argsort(share, kind="stable")]))


@pytest.mark.parametrize("share", [[0.5, 0.75, 1.0], [2.0**-i for i in range(6, -1, -1)]])
def test_checkpoints_at_the_same_shares_of_each_run(share: list[float]) -> None:
    same(seen(checkpoints(share)))


@pytest.mark.parametrize("by", ["tokens", "ratio", "flops"])
def test_a_ladder_is_no_log(by: str) -> None:
    """The same tokens, tokens per param or FLOPs for all sizes, these in two digits."""
    params = np.repeat(np.geomspace(2e7, 2e9, 8), 5)
    step = np.tile(np.geomspace(1, 16, 5), 8)
    tokens = {"tokens": 2e9 * step, "ratio": 5 * params * step, "flops": 1e18 * step / 6 / params}
    loss = 1.7 + 400 / params**0.34 + 410 / tokens[by] ** 0.28
    sizes = [float(f"{p:.2g}") for p in params]
    table = pd.DataFrame({"params": sizes, "tokens": tokens[by], "loss": loss})
    assert len(seen(table).frame) == 40


def test_checkpoints_of_runs_named_by_size_and_budget() -> None:
    names = [f"{p / 1e6:.0f}M-{c:g}" for p, c in zip(RUNS["params"], RUNS["flops"], strict=True)]
    log = checkpoints([0.25, 1.0]).assign(run=np.repeat(names, 2))
    same(seen(log))


def test_checkpoints_of_several_runs_of_one_name() -> None:
    """The name is the size, of which there are several runs."""
    sizes = np.geomspace(2e7, 2e9, 6)
    parts = []
    for flops in BUDGETS:
        for n in sizes:
            tokens = flops / 6 / n * np.arange(1, 11) / 10
            loss = 1.7 + 400 / n**0.34 + 410 / tokens**0.28
            parts.append(pd.DataFrame({"run": f"{n / 1e6:.0f}M", "N": n, "tokens": tokens,
                                       "val_loss": loss}))  # fmt: skip
    assert len(seen(pd.concat(parts, ignore_index=True)).frame) == 24


def test_names_that_return_on_budgets_are_sizes_of_a_grid() -> None:
    params = np.tile([3e7, 6e7, 1.2e8, 2.4e8, 4.8e8], 4)
    flops = np.repeat(BUDGETS, 5)
    loss = 1.7 + 400 / params**0.34 + 410 / (flops / 6 / params) ** 0.28
    grid = pd.DataFrame({"run": [f"size {i % 5}" for i in range(20)], "flops": flops * 1.01,
                         "params": params, "loss": loss})  # fmt: skip
    assert len(seen(grid).frame) == 20
    assert len(read_runs(grid, {"trial_id": "run"}).table) == 5  # if the caller says so


def test_checkpoints_that_fill_a_budget() -> None:
    log = checkpoints([0.1, 0.25, 0.5, 1.0]).assign(budget=np.repeat(RUNS["flops"].to_numpy(), 4))
    same(seen(log))


def test_an_index_without_a_header(tmp_path: Path) -> None:
    same(seen(write(tmp_path, RUNS.to_string(), "runs.txt")))
    text = RUNS.to_csv(index=False).splitlines()
    rows = [text[0], *(f"run {i},{line}" for i, line in enumerate(text[1:]))]  # R's write.table
    same(seen(write(tmp_path, "\n".join(rows))))


def test_rows_that_end_with_a_comma_have_no_index(tmp_path: Path) -> None:
    head, *lines = RUNS.to_csv(index=False).splitlines()
    same(seen(write(tmp_path, "\n".join([head, *(f"{line}," for line in lines)]))))


def test_run_numbers_after_a_hash_are_no_comments(tmp_path: Path) -> None:
    table = RUNS.assign(run=[f"#{i}" for i in range(28)])[["run", *RUNS]]
    same(seen(write(tmp_path, table.to_csv(index=False))))


def test_losses_with_a_comma_and_three_decimals(tmp_path: Path) -> None:
    cells = [f"{v:.3f}".replace(".", ",") for v in RUNS["loss"]]
    path = tmp_path / "runs.csv"
    for separator in (";", ","):
        SIZED.astype(int).assign(loss=cells).to_csv(path, sep=separator, index=False)
        same(seen(path))


def test_a_perplexity_may_be_in_thousands(tmp_path: Path) -> None:
    cells = [f"{v:,.0f}" for v in np.exp(RUNS["loss"]) * 100]
    path = tmp_path / "runs.csv"
    SIZED.astype(int).assign(loss=cells).rename(columns={"loss": "ppl"}).to_csv(path, index=False)
    assert read_runs(path).table["loss"].min() > 7


def test_a_perplexity_with_a_decimal_comma_and_three_digits(tmp_path: Path) -> None:
    cells = [f"{v:.3f}".replace(".", ",") for v in np.exp(RUNS["loss"])]
    path = tmp_path / "runs.csv"
    table = SIZED.astype(int).assign(loss=cells).rename(columns={"loss": "ppl"})
    table.to_csv(path, sep=";", index=False)
    same(seen(path))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    text = SIZED.assign(other=SIZED["loss"]).to_csv(index=False).replace("other", "loss", 1)
    with pytest.raises(TableError, match="columns 'loss' occur twice"):
        read_runs(write(tmp_path, text))


def test_a_last_row_that_is_whole(tmp_path: Path) -> None:
    noted = RUNS.assign(notes=[""] * 27 + ["two\nlines"]).to_csv(index=False)
    same(seen(write(tmp_path, noted)))
    short = RUNS.assign(notes="").to_csv(index=False).rstrip(",\n")
    same(seen(write(tmp_path, short)))


def rows(table: pd.DataFrame) -> list[dict[str, float]]:
    return [{str(k): float(v) for k, v in row.items()} for row in table.to_dict("records")]


@pytest.mark.parametrize(
    "shape",
    [
        lambda: {f"{c:g}": rows(SIZED[RUNS["flops"] == c]) for c in BUDGETS},
        lambda: {"failed": [{"params": 1e8, "loss": 9.0}], "finished": rows(SIZED)},
        lambda: {"train": rows(SIZED.assign(loss=SIZED["loss"] - 0.5)), "eval": rows(SIZED)},
        lambda: {"results": {f"run {i}": row for i, row in enumerate(rows(SIZED))}},
        lambda: {"data": {"runs": rows(SIZED)}},
    ],
    ids=["by budget", "by status", "by split", "by name", "nested"],
)
def test_shapes_of_json(shape: Callable[[], object], tmp_path: Path) -> None:
    same(seen(write(tmp_path, json.dumps(shape()), "runs.json")))


def test_layouts_around_a_table(tmp_path: Path) -> None:
    text = RUNS.to_csv(index=False)
    same(seen(write(tmp_path, f"Sweep of March\nall runs\n{text}")))
    same(seen(write(tmp_path, f"sep=,\n{text}")))
    same(seen(write(tmp_path, f"```csv\n{text}```\n", "runs.md")))
    (tmp_path / "utf16.csv").write_bytes(text.encode("utf-16-le"))
    same(seen(tmp_path / "utf16.csv"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("runs.csv", text)
        archive.writestr("__MACOSX/._runs.csv", b"\0")
    (tmp_path / "runs.zip").write_bytes(packed.getvalue())
    same(seen(tmp_path / "runs.zip"))


def test_a_table_in_latex(tmp_path: Path) -> None:
    lines = [" & ".join(f"{v:g}" for v in row) + r" \\" for row in RUNS.to_numpy()]
    head = r"\begin{tabular}{cccc}\toprule" + "\n" + r"FLOPs & $N$ & $D$ & Loss \\ \midrule"
    text = "\n".join([head, *lines, r"\bottomrule \end{tabular}"])
    same(seen(write(tmp_path, text, "table.tex")))


def test_conditions_with_a_comma_in_the_value() -> None:
    table = pd.concat([SIZED.assign(source="The Pile, v2"), SIZED.assign(source="C4")])
    assert len(read_runs(table, where="source=The Pile, v2,params<=1e9").table) < 28


def attempts(added: str, loss: float, share: float = 1.0) -> pd.DataFrame:
    """Three runs that were trained again, with the loss and share of tokens of their first."""
    names = [f"{p / 1e6:.0f}M-{c:g}" for p, c in zip(RUNS["params"], RUNS["flops"], strict=True)]
    named = SIZED.assign(run=names, loss=SIZED["loss"])
    again = named.iloc[[3, 10, 17]].assign(run=[f"{names[i]}{added}" for i in (3, 10, 17)])
    named.loc[again.index, "loss"] += loss
    named.loc[again.index, "tokens"] *= share
    return pd.concat([named, again], ignore_index=True)


@pytest.mark.parametrize("added", ["-v2", "_rerun", " (retry)"])
def test_of_a_training_that_ran_again_the_worse_attempt_is_left_out(added: str) -> None:
    table = attempts(added, 0.3)
    found = seen(table)
    same(found)
    assert list(found.excluded["row"]) == [3, 10, 17] and added in found.warnings[0]
    assert len(read_runs(table, {"trial_id": "none"}).table) == 31
    same(seen(table.assign(id=range(31))[["id", *table]]))


def test_a_retry_replaces_an_attempt_that_ended_before() -> None:
    same(seen(attempts("-retry", 0.3, 0.4)))
    assert len(seen(attempts("-v2", 0.3, 0.4)).frame) == 31  # may be another training


def test_attempts_as_good_as_each_other_are_repeats_and_said_to_be() -> None:
    found = seen(attempts("-v2", 0.003))
    assert len(found.frame) == 31 and "count as repeats" in found.warnings[0]
    assert not read_runs(SIZED.assign(run=[f"llama-v2-{i}" for i in range(28)])).notes


@pytest.mark.parametrize("top", [1, 100])
def test_an_accuracy_among_losses_is_left_out_and_its_error_can_be_fitted(top: int) -> None:
    accuracy = top * (1.2 - SIZED["loss"] / 4)
    wide = SIZED.assign(pile=SIZED["loss"] * 0.9, lambada=accuracy).rename(columns={"loss": "c4"})
    found = read_runs(wide)
    assert found.read["loss"] == ["c4", "pile"] and found.read["ignored"] == ["lambada"]
    assert f"--columns 'loss={top}-lambada'" in found.notes[0]
    assert len(read_runs(wide, {"loss": f"{top}-lambada"}).table) == 28
    assert read_runs(wide, {"loss": ["c4", "lambada"]}).table["skill"].nunique() == 2
    long = pd.concat([SIZED.assign(skill="c4"), SIZED.assign(skill="arc", loss=accuracy)])
    found = read_runs(long)
    assert set(found.table["skill"]) == {"c4"} and len(found.excluded) == 28
    assert f"--columns 'loss={top}-loss' --where 'skill=arc'" in found.notes[0]
    assert len(read_runs(long, {"loss": f"{top}-loss"}, where="skill=arc").table) == 28


def test_an_accuracy_near_chance_among_losses_is_named() -> None:
    wide = SIZED.assign(pile=SIZED["loss"] * 0.9, lambada=0.25).rename(columns={"loss": "c4"})
    (note,) = read_runs(wide).notes
    assert note.startswith("lambada") and note.endswith("--columns 'loss=1-lambada'")
    long = pd.concat([SIZED.assign(skill="c4"), SIZED.assign(skill="arc", loss=0.25)])
    assert read_runs(long).notes[0].endswith("--columns 'loss=1-loss' --where 'skill=arc'")
    assert not read_runs(wide.assign(lambada=SIZED["loss"] / 4)).notes
    assert read_runs(wide.rename(columns={"lambada": "LAMBADA ↑"})).read["loss"] == ["c4", "pile"]


@pytest.mark.parametrize("label", ["Model", "model_size", "size", "nominal_params"])
@pytest.mark.parametrize("count", ["params", "N", "total_params", "non_embedding_params"])
def test_counts_are_taken_and_not_names_of_sizes_and_it_is_said(label: str, count: str) -> None:
    sizes = [f"{p * 0.7 / 1e6:.0f}M" for p in SIZED["params"]]
    table = SIZED.rename(columns={"params": count}).assign(**{label: sizes})
    found = read_runs(table[[label, *table.columns[:3]]])
    same(prepare(found))
    assert f"'params={label}' takes it" in found.notes[0]
    assert read_runs(table, {"params": label}).read["params"] == label
    exact = [f"{p / 1e6:.2f}M" for p in SIZED["params"]]
    assert not read_runs(table.assign(**{label: exact})).notes


def test_names_of_sizes_that_the_flops_contradict_are_said() -> None:
    table = RUNS.drop(columns="params").assign(model=[f"{p / 2e6:.0f}M" for p in RUNS["params"]])
    assert "1.5 times as many" in seen(table.assign(flops=RUNS["flops"] * 0.75)).warnings[0]
    same(prepare(read_runs(table, {"params": "none"})))


def test_tokens_planned_and_seen_are_told_apart() -> None:
    table = SIZED.assign(tokens_seen=SIZED["tokens"])
    assert not read_runs(table).notes
    table.loc[4, "tokens_seen"] *= 0.4
    assert "'tokens_seen', which differs by more than 5% in 1 of 28" in read_runs(table).notes[0]
