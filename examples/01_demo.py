"""A real adaptive sweep on this machine's CPU: what `make demo` runs.

About 30 language models of 7 k to 250 k parameters are trained on a built-in corpus of facts,
programs and topic text; each is scored on every skill; the search decides what to train next.
Start it again after an interruption and it goes on where it was.
"""

from pathlib import Path

from sweeper import Sweep
from sweeper.analysis.conclusions import conclusions

HERE = Path(__file__).parent


def main() -> None:
    sweep = Sweep.load(HERE / "01_demo.yaml")
    print(sweep.plan(), "\n")
    results = sweep.run("sweeps/demo")
    fits = results.fit()
    finished = results.finished
    print(f"\nThe search stopped ({finished.reason}). {finished.detail}\n")
    print(fits, "\n")
    for sentence in conclusions(fits, results.aggregate):
        print(f"* {sentence}")
    waits = results.overhead_s()
    print(
        f"\nFrom a free slot to the next first training step: median {waits.median():.2f} s, "
        f"worst {waits.max():.2f} s."
    )
    print(f"Open {results.directory.report.resolve()} in a browser.")


if __name__ == "__main__":
    main()
