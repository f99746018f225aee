"""Own text in a quarter of an hour: Python's documentation and code, half and half of the tokens.

Prepares the text of 05_python_source, chooses budgets and allowance for the time given on this
machine, runs the sweep, and says what it found. `benchmarks/own_text.py` does the same by the
commands and holds what such sweeps say against trainings that they did not ask for.

    python examples/14_own_text.py [MINUTES]
"""

import runpy
import sys
from pathlib import Path

from sweeper import Sweep
from sweeper.analysis.conclusions import conclusions
from sweeper.analysis.weak import weak_in
from sweeper.commands.prepare import load_corpora
from sweeper.plan.given import Given, choose
from sweeper.spec.reading import read_yaml
from trainables.prepare.run import prepare

HERE = Path(__file__).parent
SPEC, CORPUS, SWEEP = HERE / "14_own_text.yaml", Path("corpora/own-text"), Path("sweeps/own-text")


def planned(minutes: float) -> Sweep:
    """The corpus made, and the sweep that fits the time."""
    if not (CORPUS / "manifest.json").exists():
        runpy.run_path(str(HERE / "05_python_source.py"))["write_text"]()
        prepare(load_corpora(HERE / "05_corpora.yaml", {"share_of": "tokens"}), CORPUS)
    memory = Path("corpora/own-text.speed.json")
    found = choose(read_yaml(SPEC), Given(minutes=minutes), Sweep, memory=memory)
    print(found.plan, *found.lines(), "", sep="\n")
    return found.spec


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
    begun = (SWEEP / "sweep.yaml").exists()
    sweep = Sweep.load(SWEEP / "sweep.yaml") if begun else planned(minutes)
    results = sweep.run(SWEEP)
    fits = results.fit()
    print(f"\n{fits}\n")
    for sentence in conclusions(fits, results.aggregate, weak_in(results, fits)):
        print(f"* {sentence}")


if __name__ == "__main__":
    main()
