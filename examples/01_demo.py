"""A real adaptive sweep on this machine's CPU: what `make demo` and `isoskill demo` run.

Some twenty language models of 8 k to 120 k parameters are trained on a built-in corpus of facts,
programs and topic text; each is scored on every skill; the search decides what to train next.
Start it again after an interruption and it goes on where it was. The spec is
sweeper/commands/starters/demo.yaml; `isoskill init laptop` writes one to change.
"""

from pathlib import Path

from sweeper.commands.starting import demo

if __name__ == "__main__":
    demo(out=Path("sweeps/demo"), quiet=False)
