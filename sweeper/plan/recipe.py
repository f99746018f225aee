"""What every trial of a sweep is trained with, a line for each part, and what is doubtful in it.

A plan opens with it: a rate that fits nothing or a context of a few words costs a whole sweep, and
nothing in its results says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sweeper.budget import Allocation
from sweeper.spec.defaults import CONTEXTS, context_of, scaled_rate
from sweeper.spec.spec import Spec
from sweeper.text import fitted, named, number, percent, ratio, si
from trainables.config import TrialConfig
from trainables.data import EPOCHS_WARNED, Prepared
from trainables.training import BUILT_IN, Train

FEW_STEPS = 200
"""Steps of the guessed optimum's trial below which the schedule decides the loss (assumption: a
cosine with a short warm-up has hardly left its peak)."""

MISTUNED = 2.0
"""Factor off the rule's rate that is said: 1.35 costs .25 % of the loss, 2.4 costs 1.6 %
(measured, benchmarks/results/tuning.md)."""

SOURCES = {
    "width": "hand-tuned on the built-in corpora (benchmarks/results/tuning.md)",
    "llama3": "ranges of Llama 3's sweep, 6e18 to 1e22 FLOPs (arXiv 2407.21783)",
    "deepseek": "DeepSeek LLM's law, 1e17 to 1e20 FLOPs (arXiv 2401.02954)",
    "porian": "Porian et al.'s law, 25 to 110 M params (arXiv 2406.19146)",
    "steplaw": "Step Law, .2 to 1.1 B params (arXiv 2503.04715)",
}
"""Where the rates and batches of rules come from."""

RANGES: dict[str, tuple[str, float, float]] = {
    "llama3": ("FLOPs", 6e18, 1e22), "deepseek": ("FLOPs", 1e17, 1e20),
    "porian": ("params", 25e6, 110e6), "steplaw": ("params", 0.2e9, 1.1e9),
}  # fmt: skip
"""What the rules were measured at (`trainables.recipe`)."""

FAR_OUTSIDE = 10.0
"""Factor outside it from which a rule is doubted: at 10 k to 90 k params all are off by 2 to 30
times (measured, benchmarks/results/tuning.md)."""

VOCABULARY = (0.20, 0.42)
"""Best parameters of the vocabulary, coefficient * FLOPs^exponent (Tao et al. 2024, arXiv
2407.13623, approach 1; models of 33 M to 3 B params)."""

VOCABULARY_OFF = 8.0
"""Factor off the best vocabulary that is said (assumption: the loss is flat around it)."""

ROOM = 1.6
"""Factor between a guessed optimum and the smallest or largest size from which it is bracketed
(assumption: two sizes of the ladder; the search goes e^1.6 beyond)."""

DECADE = 10.0
"""Span of budgets from which an exponent can be told well (assumption; the paper's is 30)."""


@dataclass(frozen=True)
class Line:
    """One part of the recipe.

    Attributes:
        name: of the part.
        value: what it is.
        doubt: what is wrong with it and which field to change; "" for nothing.
    """

    name: str
    value: str
    doubt: str = ""


def recipe_lines(spec: Spec) -> tuple[Line, ...]:
    """The recipe of a sweep's trials; of a trainer of the user's, what is known of it."""
    lines = [_ladder(spec), _data(spec)]
    if spec.trainer is not None or spec.data.source == "simulated":
        return tuple(lines)
    guesses = (allocations(spec, flops)[1] for flops in (spec.budgets[0], spec.budgets[-1]))
    ends = [spec.own_trial(allocation) for allocation in guesses]
    parts = (_model(spec, ends[-1]), _context(spec), _batch(spec, ends), _rate(spec, ends))
    return (*lines, *parts, _steps(spec, ends), _ratio(spec))


def shown(lines: tuple[Line, ...]) -> Iterator[str]:
    """The recipe as a terminal shows it."""
    for line in lines:
        yield named(line.name, line.value)
        if line.doubt:
            yield fitted(f"{'':10}! {line.doubt}", most=100)


def allocations(spec: Spec, flops: float) -> tuple[Allocation, Allocation, Allocation]:
    """The smallest size, the guessed optimum and the largest size on a budget."""
    space = spec.space
    low, *_, high = space.sizes(flops)
    sizes = (low, min(max(spec.search.guess(flops), low), high), high)
    low_at, guess_at, high_at = (space.allocation(flops, size) for size in sizes)
    return low_at, guess_at, high_at


def _ladder(spec: Spec) -> Line:
    low, high = spec.budgets[0], spec.budgets[-1]
    value = f"{number(low)} to {number(high)} FLOPs, a factor of {high / low:.3g}"
    doubt = ""
    if high < 0.99 * DECADE * low:
        doubt = (
            f"less than a factor of {DECADE:g}: exponents, and all beyond the top budget, will be "
            "vague; stretch budgets"
        )
    return Line("budgets", value, doubt)


def _data(spec: Spec) -> Line:
    data = spec.data
    both = [
        f"{name} {percent(tokens)} of tokens"
        + (f" ({percent(data.mix[name])} of documents)" if isinstance(data, Prepared) else "")
        for name, tokens in data.token_mix.items()
    ]
    value = f"{data.source}: {', '.join(both)}"
    if not isinstance(data, Prepared):
        return Line("data", value)
    top = spec.budgets[-1]
    smallest, guess, _ = allocations(spec, top)
    epochs = {name: spec.epochs(float(guess.tokens))[name] for name in data.classes}
    worst = max(epochs, key=epochs.__getitem__)
    most = spec.epochs(float(smallest.tokens))[worst]
    value += f"; {worst} seen {epochs[worst]:.2g} to {most:.2g} times at {number(top)} FLOPs"
    doubt = ""
    if epochs[worst] > EPOCHS_WARNED:
        tokens = EPOCHS_WARNED * data.packed.classes[worst].tokens / data.token_mix[worst]
        doubt = (
            f"the corpus is too small for this ladder: {worst} is repeated at the optimum itself; "
            f"prepare {epochs[worst] / EPOCHS_WARNED:.2g} times as much, or end budgets near "
            f"{number(6 * tokens**2 / spec.search.tokens_per_param, 1)} FLOPs"
        )
    return Line("data", value, doubt)


def _model(spec: Spec, top: TrialConfig) -> Line:
    model, shape = spec.model, top.shape
    share = model.vocabulary * shape.width / shape.params_with_head
    value = (
        f"{model.family}, {si(spec.space.params[0])} to {si(spec.space.params[-1])} params; "
        f"vocabulary {model.vocabulary}, {number(100 * share, 2)} % of the "
        "params at the largest optimum"
    )
    doubt, coefficient, exponent = "", *VOCABULARY
    best = coefficient * spec.budgets[-1] ** exponent / shape.width
    if isinstance(spec.data, Prepared) and model.vocabulary < best / VOCABULARY_OFF:
        doubt = f"a toy's at these budgets, where about {best:.1g} tokens pay"
    elif isinstance(spec.data, Prepared) and model.vocabulary > best * VOCABULARY_OFF:
        doubt = f"the head takes what the blocks should have; about {best:.1g} tokens pay here"
    if doubt:
        doubt += " (Tao et al. 2024): prepare the corpus with another tokenizer.vocabulary"
    return Line("model", value, doubt)


def _context(spec: Spec) -> Line:
    context, data = spec.model.context, spec.data
    if not isinstance(data, Prepared):
        return Line("context", f"{context} tokens")
    lengths = {name: entry.mean_tokens for name, entry in data.packed.classes.items()}
    said = ", ".join(f"{name} {si(length)}" for name, length in lengths.items())
    value = f"{context} tokens; a document has on average: {said}"
    wanted = context_of(data, spec.cluster.hardware)
    cut = [
        name
        for name, skill in data.packed.skills.items()
        if name in spec.measured and skill.tokens / max(skill.examples, 1) > context
    ]
    if cut:
        longer = min(2 * wanted, CONTEXTS[True][1])
        doubt = f"an example of {', '.join(cut)} is longer, and cut; set model.context: {longer}"
        return Line("context", value, doubt)
    doubt = (
        f"short of the documents: what depends on more than {context} tokens before it is not "
        f"learned; set model.context: {wanted}"
    )
    return Line("context", value, doubt if 2 * context <= wanted else "")


def _batch(spec: Spec, ends: list[TrialConfig]) -> Line:
    low, high = (end.recipe.batch * end.shape.context for end in ends)
    span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return Line("batch", f"{span} tokens a step ({_source(spec, 'batch')})")


def _source(spec: Spec, name: str) -> str:
    """Where the batch or the rate comes from."""
    law = getattr(spec.train.law, name)
    if law is not None:
        at = "" if law.params_range is None else (
            f", measured at {si(law.params_range[0])} to {si(law.params_range[1])} params"
        )  # fmt: skip
        return f"train.law{at}"
    if spec.train.rule != "width":
        return f"train.rule {spec.train.rule}: {SOURCES[spec.train.rule]}"
    if not isinstance(spec.data, Prepared):
        return SOURCES["width"]
    if name == "batch":
        return "train.batch_tokens"
    return "train.learning_rate at width 32, falling as the root of the width: untuned here"


def _rate(spec: Spec, ends: list[TrialConfig]) -> Line:
    low, high = (end.recipe.learning_rate for end in ends)
    span = f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
    value = f"{span} at the guessed optima ({_source(spec, 'learning_rate')})"
    if spec.train.law.learning_rate is not None:
        return Line("rate", value)
    if spec.train.rule != "width":
        return Line("rate", value, _far_outside(spec, ends))
    batch, width = spec.train.batch_tokens, ends[0].shape.width
    rule = replace(Train(), learning_rate=scaled_rate(batch)).peak_rate(width)
    off = low / rule
    if not 1 / MISTUNED < off < MISTUNED:
        way = "above" if off > 1 else "below"
        return Line("rate", value, (
            f"{max(off, 1 / off):.2g} times {way} the rule's {rule:.2g} for this batch "
            f"({BUILT_IN['learning_rate']:g} at {BUILT_IN['batch_tokens']:g} tokens, as the root "
            "of the batch): unless it was tuned, leave train.learning_rate out, or `isoskill tune`"
        ))  # fmt: skip
    doubt = (
        "a rate off by 2 costs 1 % of the loss, more at some sizes than at others; such a rule "
        "moved the demo's optima by a factor of .84: `isoskill tune` measures it"
    )
    return Line("rate", value, doubt if isinstance(spec.data, Prepared) else "")


def _far_outside(spec: Spec, ends: list[TrialConfig]) -> str:
    """Why a published rule is doubted, where it is used far outside what it was measured at."""
    of, low, high = RANGES[spec.train.rule]
    at = [end.flops if of == "FLOPs" else float(end.shape.params_with_head) for end in ends]
    off = max(low / min(at), max(at) / high)
    if off < FAR_OUTSIDE:
        return ""
    return (
        f"used a factor of {off:.2g} outside the {number(low)} to {number(high)} {of} it was "
        "measured at: leave train.rule out, or `isoskill tune` measures rate and batch here"
    )


def _steps(spec: Spec, ends: list[TrialConfig]) -> Line:
    few = spec.own_trial(allocations(spec, spec.budgets[0])[2]).recipe.steps
    many = spec.own_trial(allocations(spec, spec.budgets[-1])[0]).recipe.steps
    guessed = [end.recipe.steps for end in ends]
    value = (
        f"{few:,} (largest size, least budget) to {many:,} (smallest size, top budget); at the "
        f"guessed optima {guessed[0]:,} to {guessed[1]:,}"
    )
    doubt = (
        f"fewer than {FEW_STEPS} at an optimum: warm-up and schedule decide the loss; lower "
        "train.batch_tokens or raise the least budget"
    )
    return Line("steps", value, doubt if guessed[0] < FEW_STEPS else "")


def _ratio(spec: Spec) -> Line:
    ratios = [
        allocation.tokens / allocation.params
        for flops in (spec.budgets[0], spec.budgets[-1])
        for allocation in allocations(spec, flops)
    ]
    value = (
        f"{ratio(min(ratios))} to {ratio(max(ratios))} tokens per param, "
        f"{ratio(spec.search.tokens_per_param)} guessed best"
    )
    sizes = spec.space.params
    for flops in (spec.budgets[0], spec.budgets[-1]):
        guess = spec.search.guess(flops)
        if not ROOM * sizes[0] <= guess <= sizes[-1] / ROOM:
            return Line("t/p", value, (
                f"at {number(flops)} FLOPs the optimum is guessed at {si(guess)} params, at the "
                f"edge of the sizes ({si(sizes[0])} to {si(sizes[-1])}): it cannot be bracketed; "
                "raise budgets, widen sizes.low..sizes.high, or lower model.vocabulary"
            ))  # fmt: skip
    return Line("t/p", value)
