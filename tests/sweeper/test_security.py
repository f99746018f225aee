"""Who may reach a sweep, and what may come out of it."""

import ast
import html
import warnings
from pathlib import Path

import psutil
import pytest

from sweeper import Results, SearchSettings, Sweep
from sweeper.cluster import connect as cluster
from sweeper.driver.driver import Driver, Start
from sweeper.record.directory import Directory, safe_name
from sweeper.record.ledger import Ledger
from sweeper.record.redaction import redact
from sweeper.search.build import policy
from sweeper.search.protocol import Finished
from trainables.context import LocalContext
from trainables.data import Data
from trainables.simulated import SURFACES, train

ROOT = Path(__file__).resolve().parents[2]

HOSTILE = [
    "<script>alert('skill')</script>", "../../etc/x", "'; DROP TABLE trials; --", 'a"b`$(id)`',
    "line\nbreak\r\ttab", "x" * 10_000, "名前 ✓ \u202e{{ 7*7 }}", "CON", "-rf", "$\\frac{$",
]  # fmt: skip


@pytest.mark.ray
def test_nothing_listens_beyond_this_machine(ray_cluster):
    import ray

    @ray.remote(num_cpus=0)
    def port():
        return ray.util.get_node_ip_address()

    assert ray.get(port.remote()).startswith("127.")
    found = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                found[connection.laddr.port] = (connection.laddr.ip, process.name())
    assert len(found) > 5  # the daemons of Ray and its workers
    outside = {
        port: who
        for port, who in found.items()
        if not who[0].removeprefix("::ffff:").startswith("127.") and who[0] != "::1"
    }
    assert not outside


@pytest.mark.parametrize("locked", [True, False])
def test_an_open_cluster_is_warned_of(monkeypatch, locked):
    monkeypatch.setattr(cluster, "is_token_auth_enabled", lambda: locked)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        cluster._warn_unauthenticated("head:6379")
    assert [("RAY_AUTH_MODE=token" in str(w.message)) for w in heard] == ([] if locked else [True])


def hostile_sweep():
    surface = dict(zip(HOSTILE, [SURFACES["code"], SURFACES["knowledge"]] * 5, strict=False))
    return Sweep(
        budgets=[1e11, 2e11],
        allowance=3e12,
        name=HOSTILE[0],
        skills=HOSTILE,
        data=Data(source="simulated", surface={**surface, "validation": SURFACES["validation"]}),
        search=SearchSettings(policy="grid", sizes_per_budget=6),
    )


def run_here(sweep, root):
    """The sweep's own driver and trials, one after another, without Ray."""
    directory = Directory(root)
    directory.claim(sweep)
    ledger = Ledger(directory.ledger)
    driver = Driver(sweep, ledger, policy(sweep, sweep.measured))
    start = driver.next()
    assert isinstance(start, Start)
    driver.begin(start)
    driver.died(start.trial_id, "worker-died", HOSTILE[0])
    while not isinstance(start := driver.next(), Finished):
        driver.begin(start)
        record = train(sweep.trial(start.allocation), LocalContext())
        driver.ended(start.trial_id, record)
    ledger.close()


@pytest.mark.filterwarnings("ignore:Glyph", "ignore:constrained_layout")  # as names ask for
def test_hostile_names_pass_through_harmlessly(tmp_path):
    sweep, root = hostile_sweep(), tmp_path / "deep" / "er"
    run_here(sweep, root)
    results = Results(root)
    results.export()
    assert results.sweep == sweep
    assert set(results.table["skill"]) == {*HOSTILE, "validation"}
    assert results.table["loss"].notna().all()
    assert set(results.fit()) == {*HOSTILE, "validation"}
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert html.escape("<script>alert") in page
    assert "Faults that the sweep got over" in page
    assert "{{ 7*7 }}" in page  # shown, not evaluated
    inside = {path.name for path in tmp_path.iterdir()}
    assert inside == {"deep"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["er"]


@pytest.mark.parametrize("name", [*HOSTILE, "", "..", "/", ".hidden", "a/b"])
def test_a_sweeps_name_leads_nowhere_else(name, tmp_path):
    path = tmp_path / safe_name(name)
    assert path.parent == tmp_path
    assert 0 < len(path.name) <= 60
    assert not path.name.startswith((".", "-"))
    path.mkdir()


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hunter2hunter2@host/x", "Authorization: Bearer hunter2hunter2",
        "password='hunter2hunter2'", "key hunter2hunter2 was refused",
    ],
)  # fmt: skip
def test_secrets_are_blanked(text, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "hunter2hunter2")
    assert "hunter2" not in redact(text)
    assert "***" in redact(text)


def test_words_that_are_no_secrets_stay():
    text = "loss is nan at step 20: tokens=480, 1e18 FLOPs, trial 566effb79919 of code"
    assert redact(text) == text


UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_no_pickle_is_read_and_yaml_is_safe():
    for path in [
        p for name in ("fitting", "trainables", "sweeper") for p in (ROOT / name).rglob("*.py")
    ]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        safe = {c.name for c in classes if "yaml.SafeLoader" in map(ast.unparse, c.bases)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert not UNSAFE & {a.name.split(".")[0] for a in node.names}, path
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in UNSAFE, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called = ast.unparse(node.func)
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert called not in ("yaml.unsafe_load", "pd.read_pickle"), path
                assert called != "yaml.load" or ast.unparse(node.args[1]) in safe, path
                assert called != "torch.load" or keywords.get("weights_only") == "True", path
                assert keywords.get("allow_pickle", "False") == "False", path
                assert keywords.get("trust_remote_code", "False") == "False", path
