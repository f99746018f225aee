"""The report is one file that needs nothing, says what the fits say, and escapes what it shows."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fitting import fit_skills
from sweeper import Sweep
from sweeper.budget import Allocation
from sweeper.errors import SpecError
from sweeper.record.ledger import Ledger
from sweeper.record.record import Outcome
from sweeper.report import report
from sweeper.report.figures import figures
from sweeper.report.tables import every_trial, trials_of
from sweeper.search.protocol import Finished
from sweeper.sweep import Results

BUDGETS = (1e11, 2e11, 4e11)
WANTS = {"knowledge": 1.5, "code": 0.7, "validation": 1.0}
EVIL = '<script>alert("x")</script> & <b>bold</b>'


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PRESS = """<script>
const table = document.querySelector("table.sortable"), heads = [...table.tHead.rows[0].cells];
const press = (title, n) => {
  const i = heads.findIndex((head) => head.textContent === title);
  while (n--) heads[i].querySelector("button").click();
  return [...table.tBodies[0].rows].map((row) => row.cells[i].textContent);
};
const params = press("params", 2), order = heads[2].ariaSort, losses = press("code", 1);
const root = document.documentElement;
const seen = (selector) => [...document.querySelectorAll(selector)].filter((e) =>
  getComputedStyle(e).display !== "none").length;
const boxes = [...document.querySelectorAll("[data-hides]")], before = seen("figure svg");
boxes[0].click();
const toggled = `${before - seen("figure svg")} of ${boxes.length} off`;
document.querySelector("nav a[href='#trials']").click();
dispatchEvent(new Event("beforeprint"));
const folds = document.querySelectorAll("details:not([open])").length;
document.title = `${params[0]} ${order}, ${Number(losses[0]).toFixed(2)} ... ` +
  `${losses.at(-1) || "empty"}, overflow ${root.scrollWidth - root.clientWidth}, ` +
  `${toggled}, at ${location.hash}, ${folds} folds`;
</script>"""


def loss(skill: str, flops: float, params: float) -> float:
    """A valley in ln p that goes with the square root of the budget."""
    best = 0.06 * math.sqrt(flops) * WANTS[skill]
    return 1 + (1e11 / flops) ** 0.3 + 0.15 * math.log(params / best) ** 2


def long_table(budgets: tuple[float, ...] = BUDGETS, noise: float = 0.01) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for flops in budgets:
        for i, offset in enumerate(np.linspace(-1.5, 1.5, 7)):
            params = round(0.06 * math.sqrt(flops) * math.exp(offset))
            for skill in WANTS:
                value = loss(skill, flops, params) + noise * rng.normal()
                rows.append((f"{flops:g}-{i}", flops, params, flops / 6 / params, skill, value))
    table = pd.DataFrame(rows, columns="trial_id flops params tokens skill loss".split())
    return table.assign(seed=0, mix="base", status="finished", reason="", spent_flops=table.flops)


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return Sweep(
        budgets=BUDGETS, allowance=8e12, name=EVIL, skills=("knowledge", "code", "validation")
    )


@pytest.fixture(scope="module")
def page(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> str:
    table = long_table()
    table.loc[table.trial_id == "1e+11-6", ["status", "reason", "loss"]] = ["failed", EVIL, np.nan]
    outcome = Outcome(sweep, table, Finished("tolerance", "Every interval is narrow enough."))
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert report.write(outcome, path, fit_skills(table)) == path
    return path.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects what a browser would act on."""

    VOID = frozenset({"meta", "link", "br", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    return Reader(page)


def test_the_other_forms_say_the_same(sweep: Sweep, tmp_path: Path) -> None:
    table = long_table()
    outcome = Outcome(sweep, table, Finished("tolerance", "Narrow | enough\nat last."))
    fits = fit_skills(table)
    text = report.write(outcome, tmp_path / "r.md", fits).read_text("utf-8")
    values = json.loads(report.write(outcome, tmp_path / "r.json", fits).read_text("utf-8"))

    assert values["conclusions"][0].split(":")[0] in text
    assert r"Narrow \| enough at last." in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == sum(
        2 + n for n in (9, 3, 9, 3, 21, len(values["recipe"]), len(values["constants"]))
    )
    assert len(values["trials"]) == 21
    assert values["fits"]["skills"].keys() == set(WANTS)
    with pytest.raises(SpecError, match=r"must end in one of .html, .md, .json"):
        report.write(outcome, tmp_path / "r.pdf", fits)


def test_one_budget_promises_no_law(sweep: Sweep, tmp_path: Path) -> None:
    table = long_table(BUDGETS[:1])
    outcome = Outcome(sweep, table, Finished("allowance", "Spent."))
    written = report.write(outcome, tmp_path / "r.html", fit_skills(table)).read_text("utf-8")
    assert "extrapolation" not in written and "by its law" not in written


def test_losses_in_bits_are_drawn_in_bits(tmp_path: Path) -> None:
    table = long_table().query("skill == 'code'").rename(columns={"loss": "bits_per_byte"})
    table[["params", "tokens", "bits_per_byte"]].to_csv(tmp_path / "runs.csv", index=False)
    fits = fit_skills(tmp_path / "runs.csv", method="parabola")
    assert ">loss (bits per byte)<" in figures(fits, None, list(fits))[0].drawings[0]


@pytest.mark.parametrize(("budgets", "crosses"), [(3, True), (20, False)])
def test_captions_tell_of_what_is_drawn(budgets: int, crosses: bool) -> None:
    table = long_table(tuple(np.geomspace(1e11, 1e13, budgets)))
    fits = fit_skills(table[table["skill"] == "code"], method="parabola")
    drawn = figures(fits, None, ["code"])[0]
    assert ("Crosses" in drawn.caption) is crosses
    assert ("the line passes" in drawn.caption) is not crosses


def test_notebooks_show_tables(sweep: Sweep) -> None:
    fits = fit_skills(long_table())

    assert "<td>knowledge</td>" in fits._repr_html_()
    assert html.escape(EVIL) in sweep._repr_html_()
    assert EVIL not in sweep._repr_html_()


def test_tags_are_balanced_and_ids_are_unique(read: Reader) -> None:
    assert read.wrong == [] and read.open == []
    ids = read.values("id")
    assert len(ids) == len(set(ids))


def test_nothing_is_fetched(page: str, read: Reader) -> None:
    for link in read.values("src", "href", "xlink:href", "action", "data"):
        assert link.startswith("#") or link == "data:,"
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest", page)


def test_every_anchor_and_reference_has_its_target(page: str, read: Reader) -> None:
    ids = set(read.values("id"))
    links = {link[1:] for link in read.values("href", "xlink:href") if link.startswith("#")}
    links |= set(re.findall(r"url\(#([^)]+)\)", page)) | set(read.values("aria-labelledby"))
    assert links <= ids


def test_what_comes_from_data_is_escaped(page: str, read: Reader) -> None:
    assert EVIL not in page
    assert "alert(&#34;x&#34;)" in page
    assert read.text.count(EVIL) >= 2  # the name of the sweep, the reason of the failure


def test_the_answer_comes_first_and_is_that_of_the_console(page: str, sweep: Sweep) -> None:
    table = long_table()
    table = table[table.trial_id != "1e+11-6"]
    first = report.conclusions(fit_skills(table), "validation")[0]

    assert "knowledge asks for a larger model than code" in first
    words = page.replace("\xa0%", " %")
    assert words.index(first) < words.index('id="optima"') < words.index('id="trials"')


def test_optima_of_all_methods_are_shown(page: str) -> None:
    optima = page[page.index('id="optima"') : page.index('id="figures"')]
    compared = page[page.index('id="methods-compared"') : page.index('id="sweep"')]

    assert optima.count('rowspan="3"') == 3
    for method in ("guarded", "parabola", "surface"):
        assert f">{method}</th>" in compared


def test_every_trial_and_every_failure_is_listed(page: str) -> None:
    trials = page[page.index('id="trials"') : page.index('id="left-out"')]
    left_out = page[page.index('id="left-out"') : page.index('id="how"')]

    assert trials.count("<tr>") == 1 + 21
    assert left_out.count("1e+11-6") == 2  # as a failed trial, and as rows left out


def test_figures_take_the_colours_of_the_page(page: str) -> None:
    drawings = re.findall(r'<svg role="img".*?</svg>', page, flags=re.DOTALL)

    assert len(drawings) == 3 + 1 + 1  # curves of each skill, laws, residuals
    for drawing in drawings:
        assert "var(--ink)" in drawing
        assert not re.search(r"#(000000|ffffff|0072b2|c1121f)", drawing, flags=re.IGNORECASE)


def test_numbers_in_figures_keep_their_digits(page: str) -> None:
    assert re.search(r">code: b = 0\.\d{3}<", page)
    assert re.search(r">code: mean \d\.\d\d<", page)


def test_the_spec_is_there_to_run_again(read: Reader, sweep: Sweep, tmp_path: Path) -> None:
    spec = next(text for text in read.text if text.startswith("budgets:"))
    (tmp_path / "sweep.yaml").write_text(spec)

    assert Sweep.load(tmp_path / "sweep.yaml") == sweep


def test_the_same_results_give_the_same_page(page: str, sweep: Sweep, tmp_path: Path) -> None:
    def without_date(text: str) -> str:
        return re.sub(r"on \d{4}-\d\d-\d\d \d\d:\d\d UTC", "", text)

    table = long_table()
    table.loc[table.trial_id == "1e+11-6", ["status", "reason", "loss"]] = ["failed", EVIL, np.nan]
    outcome = Outcome(sweep, table, Finished("tolerance", "Every interval is narrow enough."))
    again = report.write(outcome, tmp_path / "again.html", fit_skills(table))

    assert without_date(again.read_text(encoding="utf-8")) == without_date(page)


def browsed(page: str, script: str, folder: Path, width: int) -> str:
    """The title that a script gives the page in a browser's window."""
    (folder / "r.html").write_text(page.replace("</body>", script + "</body>"), "utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
    command += [f"--window-size={width},900", f"--user-data-dir={folder}", "--dump-dom"]
    command += [(folder / "r.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    said = re.search(r"<title>(.*?)</title>", dom)
    assert said is not None
    return said[1]


@pytest.mark.skipif(not CHROMIUM, reason="needs the chromium browser")
def test_headings_sort_and_nothing_overflows_in_a_browser(page: str, tmp_path: Path) -> None:
    """Pressed twice, the heading of params puts the largest first, and empty losses stay last."""
    best = long_table().query("skill == 'code'")["loss"].min()
    said = f"170k descending, {best:.2f} ... empty, overflow 0, 1 of 6 off, at #trials, 0 folds"

    assert browsed(page, PRESS, tmp_path, 500) == said


@pytest.mark.skipif(not CHROMIUM, reason="needs the chromium browser")
def test_long_names_push_no_number_out_of_sight(page: str, tmp_path: Path) -> None:
    count = "wide.filter((e) => e.scrollWidth > e.clientWidth + 1).length"
    script = "const wide = [...document.querySelectorAll('.wide')].filter((e) => e.clientWidth);"
    script = f"<script>{script} document.title = `${{{count}}} of ${{wide.length}}`;</script>"
    long = page.replace("</span>knowledge", "</span>knowledge of medicine, five-shot, " * 4)
    note = ' <span class="note">no size near it</span></td>'
    long = re.sub(r'(<td class="n">[^<]+\([^<]+\))</td>', rf"\1{note}", long)

    assert long.count("five-shot") > 8 and long.count(note) > 8
    assert browsed(long, script, tmp_path, 1400).startswith("0 of ")


@pytest.mark.parametrize(
    ("train", "said", "unsaid"),
    [
        ({}, "peak rate 0.008 at width 32", "by the rule"),
        ({"rule": "steplaw"}, "batch by the rule steplaw", "at width"),
        (
            {"law": {"learning_rate": {"coefficient": 150.8, "params_exponent": -0.741}}},
            "peak rate 151·p -0.741 (a measured law)",
            "at width",
        ),
    ],
)
def test_the_training_rule_is_the_one_that_was_used(
    tmp_path: Path, train: dict[str, Any], said: str, unsaid: str
) -> None:
    (tmp_path / "s.yaml").write_text(
        json.dumps({"budgets": [1e11], "allowance": 1e12, "skills": ["code"], "train": train})
    )
    table = long_table((1e11,))
    outcome = Outcome(Sweep.load(tmp_path / "s.yaml"), table[table.skill == "code"], None)
    page = report.write(outcome, tmp_path / "r.html", fit_skills(outcome.table))
    text = " ".join(" ".join(Reader(page.read_text("utf-8")).text).split())
    assert said in text and unsaid not in text


def test_the_recipe_and_what_is_doubtful_in_it_are_told(tmp_path: Path) -> None:
    spec = {"budgets": [1e11, 1e12], "allowance": 1e13, "skills": ["code"]}
    sweep = Sweep.from_dict({**spec, "train": {"learning_rate": 0.032}})
    table = long_table((1e11, 1e12))
    outcome = Outcome(sweep, table[table.skill == "code"], None)
    for name in ("r.html", "r.md", "r.json"):
        text = report.write(outcome, tmp_path / name, fit_skills(outcome.table)).read_text("utf-8")
        assert "4 times above the rule" in text, name
        assert "tokens per param" in text, name


def test_one_budget_and_one_skill_are_enough(tmp_path: Path) -> None:
    table = long_table((1e11,))
    table = table[table.skill == "code"]
    outcome = Outcome(Sweep(budgets=[1e11], allowance=1e12, skills=["code"]), table, None)
    page = report.write(outcome, tmp_path / "r.html", fit_skills(table)).read_text("utf-8")

    assert "not finished: these are the results so far" in page
    assert "nan" not in Reader(page).text


def test_the_aggregate_alone_is_enough(tmp_path: Path) -> None:
    rows = [{"params": 10**5 * 2**i} for i in range(9)]
    spec = {
        "budgets": [1e15, 3e15],
        "allowance": 3e16,
        "search": {"policy": "grid"},
        "trainer": {"skills": {"validation": "aggregate"}},
        "sizes": {"ladder": rows},
        "cluster": {"device": "cpu-core"},
    }
    found = Sweep.from_dict(spec).simulate(
        lambda a, rng: {"validation": 1.5 + 400 / a.params**0.34 + 410 / a.tokens**0.28}
    )
    text = report.write(found, tmp_path / "report.html", found.fit()).read_text()
    assert "Residuals against" not in text
    assert "trials launched by hand" in text
    for ours in ("AdamW", "classes weighted", "attention’s scores", "held-out examples that are"):
        assert ours not in text, "what only our own loop does is said of a user's trainer"


def test_names_of_skills_are_escaped_in_tables_and_drawings(sweep: Sweep, tmp_path: Path) -> None:
    table = long_table().replace({"skill": {"code": EVIL}})
    path = report.write(Outcome(sweep, table, None), tmp_path / "r.html", fit_skills(table))
    read = Reader(path.read_text("utf-8"))

    assert EVIL not in path.read_text("utf-8")
    assert read.wrong == [] and read.open == []
    assert read.text.count(EVIL) >= 6


def test_losses_that_do_not_fit_the_file_are_counted() -> None:
    code = long_table().query("skill == 'code'")
    table = pd.concat(code.assign(skill=f"skill-{i}") for i in range(600))
    shown = every_trial(trials_of(table), table, sorted(table.skill.unique()))

    assert shown.hidden == 600 - 12_000 // 21
    assert len(shown.rows) == 21


def test_a_sweep_directory_tells_its_cost_and_overhead(sweep: Sweep, tmp_path: Path) -> None:
    fill(tmp_path, sweep)
    results = Results(tmp_path)
    page = report.write(results, tmp_path / "r.html", fit_skills(results.table)).read_text("utf-8")
    text = " ".join("".join(Reader(page).text).split())

    assert "20 finished, 1 diverged" in text
    assert "median from free slot to first step; worst 0.50 s" in text
    assert "loss is NaN at step 7" in text


def test_what_a_proof_was_predicted_and_measured_is_told(sweep: Sweep, tmp_path: Path) -> None:
    fill(tmp_path, sweep)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    trial = str(ledger.trials()["trial_id"].iloc[3])
    told = {"loss": 2.0, "low": 1.9, "high": 9.0, "optimum": 2e4}
    ledger.event("proof", json.dumps({"code": told}), trial)
    ledger.close()
    results = Results(tmp_path)
    for name in ("r.html", "r.md", "r.json"):
        path = report.write(results, tmp_path / name, fit_skills(results.table))
        text = html.unescape(path.read_text("utf-8"))
        assert "Closing check, " in text, name
        assert "1 of 1 skills' losses are inside their intervals" in text, name


def fill(root: Path, sweep: Sweep) -> None:
    """Write a ledger of 21 trials in two slots, half a second between them, the last diverged."""
    sweep.save(root / "sweep.yaml")
    ledger = Ledger(root / "ledger.sqlite")
    clock = {"a": 1000.0, "b": 1000.0}
    for i, (name, rows) in enumerate(long_table().groupby("trial_id", sort=False)):
        trial, slot = rows.iloc[0], "ab"[i % 2]
        ledger.reserve(name, Allocation(trial.flops, int(trial.params), int(trial.tokens)))
        losses = {
            row.skill: {
                "class": row.skill, "nll": 100 * row.loss, "tokens": 100, "bytes": 300,
                "examples": 10,
            }
            for row in rows.itertuples()
        }  # fmt: skip
        bad = i == 20
        record = {
            "status": "diverged" if bad else "finished",
            "reason": "loss is NaN at step 7" if bad else "",
            "losses": losses, "worker": slot, "steps": 100, "wall_s": 2.0,
            "first_step_at": clock[slot] + 0.5, "ended_at": clock[slot] + 2.5,
        }  # fmt: skip
        clock[slot] += 2.5
        ledger.settle(name, record, spent_flops=trial.flops)
    ledger.close()
