from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest

from fitting.errors import TableError
from fitting.reading.observations import group_budgets, prepare
from fitting.reading.runs import read_runs


def table(**changes: object) -> pd.DataFrame:
    params = np.tile([1e8, 2e8, 4e8, 8e8], 2)
    flops = np.repeat([1.5e19, 2.4e19], 4)
    columns = {
        "flops": flops,
        "params": params,
        "tokens": flops / (6 * params),
        "skill": "code",
        "loss": np.linspace(2, 3, 8),
    }
    return pd.DataFrame(columns | changes)


def test_aliases_and_defaults() -> None:
    given = table().rename(
        columns={"flops": "C", "params": "N", "tokens": "D", "loss": "Target NLL"}
    )
    seen = prepare(given.drop(columns="skill"))
    assert seen.skills == ["loss"]
    assert {"flops", "params", "tokens", "loss", "trial_id", "seed", "mix", "budget"} <= set(
        seen.frame.columns
    )
    assert seen.budgets == [1.5e19, 2.4e19]
    assert seen.excluded.empty
    assert seen.warnings == ()


@pytest.mark.parametrize("missing", ["flops", "params", "tokens"])
def test_third_amount_follows_from_the_two_others(missing: str) -> None:
    full = table()
    seen = prepare(full.drop(columns=missing)).frame
    np.testing.assert_allclose(seen[missing], full[missing])


def test_missing_columns_are_named_with_the_nearest() -> None:
    with pytest.raises(TableError, match=r"'params' \(nearest: paramz\)") as error:
        prepare(table().rename(columns={"params": "paramz"}).drop(columns="tokens"))
    assert "'tokens'" in str(error.value)
    with pytest.raises(TableError, match="'loss'"):
        prepare(table().drop(columns="loss"))


def test_two_columns_of_one_meaning() -> None:
    with pytest.raises(TableError, match="'test_loss', 'val_loss' could each be the loss"):
        prepare(table().rename(columns={"loss": "test_loss"}).assign(val_loss=1.0))
    plain = table().drop(columns="skill")
    assert prepare(plain.assign(val_loss=1.0)).frame["loss"].max() == 1.0
    seen = prepare(table().assign(nll=9.0, budget=7.0))
    assert seen.frame["loss"].max() == 3.0
    assert seen.warnings == ()
    twice = pd.concat([table(), table()[["loss"]]], axis=1)
    with pytest.raises(TableError, match="'loss' occur twice"):
        prepare(twice)


def test_a_prepared_frame_may_be_prepared_again() -> None:
    once = prepare(table())
    assert prepare(once) is once
    again = prepare(once.frame)
    pd.testing.assert_frame_equal(again.frame, once.frame)


def test_excluded_rows_are_listed_with_reason() -> None:
    bad = table().astype({"loss": object, "params": float})
    bad.loc[0, "loss"] = np.nan
    bad.loc[1, "loss"] = "diverged"
    bad.loc[2, "params"] = -1.0
    bad.loc[3, "flops"] = np.inf
    bad["state"] = ["ok"] * 6 + ["FAILED", "Finished"]
    seen = prepare(bad)
    assert sorted(seen.excluded["row"]) == [0, 1, 2, 3, 6]
    reasons = list(seen.excluded["reason"])
    assert sorted(reasons) == [
        "flops is infinite",
        "loss is missing",
        "loss is not a number: 'diverged'",
        "params is not positive: -1",
        "status is 'failed'",
    ]
    assert list(seen.frame.index) == [4, 5, 7]


def test_no_usable_row() -> None:
    with pytest.raises(TableError, match="columns of one length"):
        prepare({"flops": [1e19, 2e19], "params": [1e8], "loss": [2.0, 2.0]})
    with pytest.raises(TableError, match="all 8 are excluded, the first: loss is not positive: 0"):
        prepare(table(loss=0.0))
    with pytest.raises(TableError, match="no rows"):
        prepare(table().iloc[:0])


def test_duplicates_of_a_trial_are_excluded_but_repeats_are_not() -> None:
    twice = pd.concat([table(trial_id=range(8)), table(trial_id=range(8)).iloc[:1]])
    seen = prepare(twice)
    assert list(seen.excluded["reason"]) == [
        "trial_id and skill occur again: duplicate, the last row counts"
    ]
    repeats = prepare(pd.concat([table(), table().iloc[:1]], ignore_index=True))
    assert repeats.excluded.empty
    assert repeats.frame["trial_id"].nunique() == 9


def test_rows_without_a_trial_id_get_one() -> None:
    seen = prepare(table(trial_id=["a", None, None, "b", "c", "d", "e", None])).frame
    assert list(seen["trial_id"]) == ["a", "row 1", "row 2", "b", "c", "d", "e", "row 7"]


def test_skills_of_one_allocation_are_one_trial() -> None:
    both = pd.concat([table(), table(skill="facts")], ignore_index=True)
    assert prepare(both).frame["trial_id"].nunique() == 8


@pytest.mark.parametrize(
    ("column", "factor", "message"),
    [
        ("flops", 1 / 3, "forward pass only"),
        ("tokens", 1e-9, "in billions"),
        ("params", 1e-6, "in millions"),
        ("flops", 1e4, "contradict each other"),
    ],
)
def test_unit_slips(column: str, factor: float, message: str) -> None:
    wrong = table()
    wrong[column] *= factor
    with pytest.raises(TableError, match=message):
        prepare(wrong)


def test_mixed_conventions_name_the_rows() -> None:
    wrong = table()
    wrong.loc[[2, 5], "flops"] /= 3
    with pytest.raises(TableError, match=r"forward pass only.*\(2 of 8 rows: 2, 5\)"):
        prepare(wrong)


def test_half_of_the_rows_are_no_few_to_leave_out() -> None:
    wrong = table()
    wrong.loc[[0, 2, 4, 6], "flops"] /= 1e6
    with pytest.raises(TableError, match=r"contradict each other.*\(4 of 8 rows"):
        prepare(wrong)


def test_conventions_are_no_slip() -> None:
    assert prepare(table(tokens=table()["tokens"] / 1.5)).warnings == ()
    (told,) = prepare(table(tokens=table()["tokens"] / 2.3)).warnings
    assert "embeddings left out" in told and "all 8 rows" in told
    (told,) = prepare(table(params=table()["params"] * 12)).warnings
    assert "all experts of a mixture" in told and "Keep the flops" in told
    (told,) = prepare(table(tokens=table()["tokens"] / 12)).warnings
    assert "12 times 6 params tokens" in told


def test_a_retry_of_a_failed_trial_counts() -> None:
    rows = table(trial_id=range(8), state="finished")
    failed = rows.iloc[[3]].assign(state="crashed", loss=np.nan)
    seen = prepare(pd.concat([failed, rows], ignore_index=True))
    assert list(seen.excluded["reason"]) == ["status is 'crashed'"]
    assert len(seen.frame) == 8


def test_an_empty_status_is_no_failure() -> None:
    assert len(prepare(table(status=["ok", None] * 4)).frame) == 8


def test_budgets_within_one_percent_are_one() -> None:
    nominal = group_budgets([1.5e19, 1.512e19, 1.505e19, 2.4e19])
    assert nominal[0] == nominal[1] == nominal[2]
    assert len(np.unique(nominal)) == 2
    np.testing.assert_allclose(nominal[0], 1.5e19, rtol=0.01)


def test_a_continuum_of_flops_is_not_one_budget() -> None:
    flops = np.geomspace(1e18, 1e22, 2000)
    assert len(np.unique(group_budgets(flops))) > 200
    sizes = np.tile([1e8, 3e8], 25)
    seen = prepare({"flops": np.geomspace(1e18, 1e22, 50), "params": sizes, "loss": 2.0})
    assert "not an isoFLOP table" in seen.warnings[0]


@pytest.mark.parametrize(
    ("params", "tokens", "said"),
    [
        ([1e7, 2e7, 4e7], [5e8] * 3, "every row has 500M tokens"),
        ([1e7, 2e7, 4e7], [2e8, 4e8, 8e8], "again on 5 and on 80 tokens per param"),
        ([1e7] * 3, [2e8, 4e8, 8e8], "every row has 10M params"),
        ([1e7], [2e8], "one training tells no optimum"),
        ([1e7] * 2, [2e8] * 2, "one training tells no optimum"),
    ],
)
def test_what_cannot_be_told_apart_is_said_with_what_would(
    params: list[float], tokens: list[float], said: str
) -> None:
    table = {"params": params, "tokens": tokens, "loss": np.linspace(4, 3, len(params))}
    assert said in prepare(table).warnings[0]


def test_one_budget_and_several_mixes_are_said() -> None:
    warned = prepare(table().iloc[:4].assign(mix=["a", "a", "b", "b"])).warnings
    assert any("one budget only" in w for w in warned)
    assert any("2 data mixes" in w for w in warned)


def test_names_that_begin_again_in_each_mix_are_other_trials(tmp_path: Path) -> None:
    named = table(trial_id=[f"run-{i}" for i in range(8)])
    both = pd.concat(
        [named.assign(mix=m, loss=named["loss"] + s) for m, s in (("a", 0), ("b", 1))]
    )
    both.to_csv(tmp_path / "runs.csv", index=False)
    for given in (both, tmp_path / "runs.csv"):
        seen = prepare(given)
        assert len(seen.frame) == 16 and seen.excluded.empty
        assert seen.frame["trial_id"].nunique() == 16
        assert not any("repeats" in warning for warning in seen.warnings)


def test_curve_and_unknown_skill() -> None:
    seen = prepare(table())
    assert len(seen.curve("code", 1.502e19)) == 4
    with pytest.raises(TableError, match="nearest: code"):
        seen.of_skill("cod")


def test_reads_files(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "runs.csv", index=False)
    table().to_parquet(tmp_path / "runs.parquet")
    for name in ("runs.csv", "runs.parquet"):
        assert len(prepare(tmp_path / name).frame) == 8
    with pytest.raises(TableError, match="no such file"):
        prepare(tmp_path / "absent.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(TableError, match="cannot read"):
        prepare(tmp_path / "empty.csv")


def test_a_million_rows() -> None:
    rng = np.random.default_rng(0)
    n = 1_000_000
    big = pd.DataFrame(
        {
            "C": rng.choice([1e18, 3e18, 1e19], n) * rng.uniform(0.997, 1.003, n),
            "N": rng.choice([1e8, 2e8, 4e8], n),
            "skill": rng.choice(["a", "b"], n),
            "loss": rng.normal(3, 0.1, n),
        }
    )
    seen = prepare(big)
    assert len(seen.frame) == n
    np.testing.assert_allclose(seen.budgets, [1e18, 3e18, 1e19], rtol=2e-3)


def test_a_damaged_export_of_a_sweep_is_refused_by_name(tmp_path):
    (tmp_path / "observations.parquet").write_text("junk")
    with pytest.raises(TableError, match=r"cannot read .*observations\.parquet"):
        prepare(tmp_path)


def test_tables_of_other_libraries_and_lists_of_records() -> None:
    own = prepare(table()).frame
    for given in (table().to_dict("records"), pyarrow.Table.from_pandas(table())):
        pd.testing.assert_frame_equal(prepare(given).frame, own)
        assert len(read_runs(given).table) == len(own)


@pytest.mark.parametrize("given", [None, 3, [1, 2], table().to_records(), object()])
def test_what_is_no_table_is_refused_with_what_is_taken(given: object) -> None:
    for reader in (prepare, read_runs):
        with pytest.raises(TableError, match=r"^type \w+ is no table: give a DataFrame"):
            reader(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("levels", [["skill"], ["trial_id", "skill"]])
@pytest.mark.parametrize("append", [False, True])
def test_named_levels_of_an_index_are_columns(levels: list[str], append: bool) -> None:
    trials = table(trial_id=list("abcdefgh"))
    plain = pd.concat([trials, trials.assign(skill="prose")], ignore_index=True)
    given = plain.set_index(levels, append=append)
    for found in (prepare(given).frame, read_runs(given).table):
        for name in levels:
            assert list(found[name]) == list(plain[name])
    both = prepare(plain.set_index("skill", drop=False))
    assert both.skills == ["code", "prose"]
    assert list(both.frame.index) == list(plain["skill"])


@pytest.mark.parametrize("rows", [1, 8])
def test_losses_of_one_name_far_apart_are_said(rows: int, tmp_path: Path) -> None:
    named = table(trial_id=list("abcdefgh"))
    for away, said in ((0.5, ["a has losses of code of 2 and 2.5 at one size"]), (0.01, [])):
        again = named.head(rows).assign(loss=named["loss"] + away)
        twice = pd.concat([named, again], ignore_index=True)
        twice.to_csv(tmp_path / "runs.csv", index=False)
        for source in (twice, tmp_path / "runs.csv"):
            warned = [w for w in prepare(source).warnings if "has losses" in w]
            assert [w[: len(s)] for w, s in zip(warned, said, strict=True)] == said


@pytest.mark.parametrize("column", ["loss", "params"])
def test_a_column_without_a_cell_is_said_to_hold_nothing(column: str) -> None:
    given = table().drop(columns="flops").assign(**{column: np.nan})
    with pytest.raises(TableError, match=f"column '{column}' holds nothing: write plain numbers"):
        prepare(given)


def test_a_second_budget_of_few_sizes_is_not_denied_a_law() -> None:
    warned = " ".join(prepare(table().iloc[:6]).warnings)
    assert "one budget only (1.5e19 FLOPs) has three sizes: a law rests on fewer" in warned
    assert "a law cannot" not in warned


@pytest.mark.parametrize("twin", ["Loss", "loss.1"])
@pytest.mark.parametrize("skill", [True, False])
def test_a_loss_written_twice_is_asked_about(twin: str, skill: bool) -> None:
    given = table() if skill else table().drop(columns="skill")
    with pytest.raises(TableError, match=f"'loss', '{twin}' could each be the loss"):
        prepare(given.assign(**{twin: given["loss"] + 0.5}))
    assert len(prepare(given.assign(**{twin: given["loss"]})).frame) == 8
    chosen = read_runs(given.assign(**{twin: given["loss"] + 0.5}), {"loss": twin})
    assert chosen.table["loss"].min() == 2.5
