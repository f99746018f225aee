"""What a plan warns of: nothing that is wrong, all that a user would regret later."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from importlib.util import find_spec

from sweeper.search.grid import GridSearch
from sweeper.spec import foreign
from sweeper.spec.scoring import SHARE, few_targets
from sweeper.spec.spec import Spec
from sweeper.text import number, percent, si
from trainables.data import EPOCHS_WARNED, Data, Prepared

LAW_REACH = 1.5
"""Factor outside its range from which a measured law is warned of (assumption: at the exponents
published, a rate is then off by less than its flat width)."""

GPU_BATCH = 16_384
"""Tokens of a batch below which a GPU waits for its next kernel (assumption, worked out for one
H100: at 1 M params a step launches for 3 to 7 ms, and 16 k tokens compute for .2)."""

GPU_VOCABULARY = 4096
"""Vocabularies below this are a toy's (assumption)."""

SCANNING = ("mamba2", "jamba", "zamba2")
"""Families whose scans have kernels in the package mamba-ssm."""

FAR_APART = 2.0
"""Factor between a class's shares of tokens and of documents from which it is said (assumption: a
class half or twice what somebody meant is another mix)."""

OFF = 1.1
"""Ratio of exact FLOPs between variants from which a plan says so (assumption: as large as a
multiplier that matters)."""

UNCOUNTED = 1.5
"""Exact FLOPs over 6 p t above which a plan says so: Llamas stay below (1.2 to 1.4 from 30 k to
7 B params), Zamba2 and small Mamba2 lie above."""


def cautions(sweep: Spec) -> Iterator[str]:
    """Each warning in a sentence, with the remedy."""
    yield from shares(sweep.data)
    yield from _few_targets(sweep)
    yield from _repetition(sweep)
    yield from _costly_scoring(sweep)
    yield from _uncounted(sweep)
    yield from _idle_gpus(sweep)
    yield from _law_range(sweep)
    yield from _short_grid(sweep)
    yield from _short_allowance(sweep)
    yield from _trainer(sweep)
    yield from _variants(sweep)


def _variants(sweep: Spec) -> Iterator[str]:
    """Warn of what favours one variant over another."""
    names = [name for name, own in sweep.variants.items() if own]
    if not names:
        return
    own_rates = {"learning_rate", "law"}
    same = [n for n in names if not own_rates & sweep.variants[n].get("train", {}).keys()]
    if same and sweep.train.law.learning_rate is not None:
        yield (
            f"variants {', '.join(same)} train at the rate measured for the reference, which "
            "favours it; run `isoskill tune` on a spec of each and give it as "
            "variants.NAME.train.law"
        )
    for name in names:
        ratio = _exact_share(sweep.alone[name])[0] / _exact_share(sweep)[0]
        if sweep.flops == "6p" and sweep.trainer is None and not 1 / OFF < ratio < OFF:
            yield (
                f"variant {name} computes {ratio:.2g} times the reference's exact FLOPs at equal "
                "6 p t, which multipliers then leave out; flops: exact counts them"
            )
    corpora = {getattr(one.data, "path", one.data.source) for one in sweep.alone.values()}
    if len(corpora) > 1:
        yield (
            "variants have different corpora: skills compare only where their held-out texts are "
            "the same; where tokenizers differ, losses per byte are compared"
        )


def _exact_share(sweep: Spec) -> tuple[float, int]:
    """Exact FLOPs over 6 p t of the largest optimum guessed, and its params."""
    params = sweep.space.params[sweep.space.nearest(sweep.search.guess(sweep.budgets[-1]))]
    if sweep.trainer is not None:
        return 1.0, params
    return sweep.shapes[params].flops_per_token("exact") / (6 * params), params


def _trainer(sweep: Spec) -> Iterator[str]:
    """Warn of a trainer's program that is not here, and of a ladder beside the guessed optima."""
    if sweep.trainer is None:
        return
    said = " ".join(sweep.trainer.command)
    if said and not re.search(r"\{(tokens|steps|flops)\b", said):
        yield (
            "trainer.command names neither {tokens} nor {steps} nor {flops}: every trial of a "
            "size would run the same training"
        )
    if said and "{directory" not in said:
        yield (
            "trainer.command names no {directory}: the trainer cannot know where its trial's "
            "losses and checkpoints belong"
        )
    missing = foreign.missing_program(sweep.trainer)
    if missing:
        yield f"{missing} (where the trials run it may be)"
    sizes = sweep.space.params
    for flops in (sweep.budgets[0], sweep.budgets[-1]):
        guess = sweep.search.guess(flops)
        if sweep.rungs and not sizes[0] < guess < sizes[-1]:
            yield (
                f"the ladder's sizes ({si(sizes[0])} to {si(sizes[-1])} params) lie beside the "
                f"optimum guessed at {number(flops)} FLOPs, {si(guess)} params "
                "(search.tokens_per_param): an optimum at their edge cannot be told"
            )


def _short_allowance(sweep: Spec) -> Iterator[str]:
    """Warn where the largest budget gets no curve."""
    top = sweep.budgets[-1]
    if sweep.allowance < foreign.LEAST_SIZES * top:
        yield (
            f"the allowance, {number(sweep.allowance)} FLOPs, pays {sweep.allowance / top:.2g} "
            f"trials on the largest budget ({number(top)}); an optimum of its own takes "
            f"{foreign.LEAST_SIZES}: raise it to five times that budget, or leave the budget out"
        )


def shares(data: Data) -> Iterator[str]:
    """Say where shares of tokens and of documents are far apart, of the class farthest."""
    if not isinstance(data, Prepared):
        return
    both = {n: (data.token_mix[n], data.mix[n]) for n in data.classes if data.mix[n] > 0}
    name = max(both, key=lambda n: abs(math.log(both[n][0] / both[n][1])))
    tokens, documents = both[name]
    if 1 / FAR_APART < tokens / documents < FAR_APART:
        return
    if data.share_of == "documents":
        yield (
            f"shares count documents: class {name!r}, {documents:.2g} of the documents, is "
            f"{tokens:.2g} of the tokens trained on; share_of: tokens (in the corpus's spec, or "
            "under data) makes shares those of tokens"
        )
    else:
        yield (
            f"shares count tokens: class {name!r}, {tokens:.2g} of the tokens, is "
            f"{documents:.2g} of the documents; for a mix that a paper states in documents, set "
            "share_of: documents"
        )


def _few_targets(sweep: Spec) -> Iterator[str]:
    """Warn of skills that would say nothing for want of targets."""
    corpus = sweep.data.corpus
    for name, entry in corpus.skills.items() if corpus else ():
        why = few_targets(entry.target_tokens) if entry.target_tokens else ""
        if why and name in sweep.measured:
            yield f"skill {name} will say nothing: {why}"


def _repetition(sweep: Spec) -> Iterator[str]:
    """Warn of classes that the smallest trials would see too often."""
    corpus, most = sweep.data.corpus, sweep.budgets[-1]
    if corpus is None:
        return
    low = sweep.space.allowed(most)[0]
    for name, epochs in sweep.epochs(sweep.space.tokens(most, low)).items():
        if epochs > EPOCHS_WARNED:
            yield (
                f"the smallest size at {number(most)} FLOPs sees class {name!r} "
                f"({si(corpus.classes[name].tokens)} tokens) {epochs:.3g} times; above "
                f"{EPOCHS_WARNED:g} epochs repeats are worth less and less (Muennighoff et al. "
                "2023). Prepare more documents, or set data.max_epochs to refuse such trials"
            )


def _costly_scoring(sweep: Spec) -> Iterator[str]:
    """Warn where scoring costs more than it should."""
    cost = sweep.scoring
    if cost is None or cost.most <= SHARE:
        return
    fewer = "leave data.evaluation_documents out, " if sweep.data.evaluation_documents else ""
    yield (
        f"scoring adds more than {percent(SHARE)} to the trials of fewest tokens (the largest "
        f"size on the smallest budget); {fewer}name fewer skills, encode fewer examples, lower "
        "sizes.high, or raise the smallest budget"
    )


def _uncounted(sweep: Spec) -> Iterator[str]:
    """Warn where 6 p t leaves out much of what a trial computes."""
    ratio, params = _exact_share(sweep)
    if sweep.flops == "6p" and ratio > UNCOUNTED:
        yield (
            f"a {sweep.model.family} of {si(params)} params computes {ratio:.2g} "
            "times 6 p t (attention over the context, scans, blocks that share weights); "
            "flops: exact makes the budget count it"
        )


def _idle_gpus(sweep: Spec) -> Iterator[str]:
    """Warn of what leaves a GPU idle: small batches, toy vocabularies, scans without kernels."""
    if not sweep.cluster.hardware.is_gpu or sweep.trainer is not None:
        return
    least = sweep.own_trial(sweep.space.allocation(sweep.budgets[0], sweep.space.params[0]))
    tokens = least.recipe.batch * sweep.model.context
    if tokens < GPU_BATCH:
        yield (
            f"batches of {tokens:,} tokens leave a GPU idle between kernels; raise "
            f"train.batch_tokens to {GPU_BATCH:,} or more, or choose a train.rule"
        )
    if sweep.model.vocabulary < GPU_VOCABULARY:
        yield (
            f"a vocabulary of {sweep.model.vocabulary} is the built-in corpora's, made for a "
            "laptop; prepare a corpus of your own (isoskill prepare) for trials on GPUs"
        )
    if sweep.model.family in SCANNING and find_spec("mamba_ssm") is None:
        yield (
            f"{sweep.model.family} trains with plain torch scans, several times slower than "
            "kernels, as the package mamba-ssm is not installed here"
        )


def _law_range(sweep: Spec) -> Iterator[str]:
    """Warn where the spec's measured laws are used outside the range they were measured in."""
    space, law = sweep.space, sweep.train.law
    for name, power in (("learning_rate", law.learning_rate), ("batch", law.batch)):
        if power is None:
            continue
        ends = [
            (space.params[i], space.tokens(flops, i))
            for flops in (space.budgets[0], space.budgets[-1])
            for i in (space.allowed(flops)[0], space.allowed(flops)[-1])
        ]
        worst = max(ends, key=lambda end: power.beyond(*end))
        if power.beyond(*worst) > LAW_REACH:
            yield (
                f"train.law.{name} is used up to a factor of {power.beyond(*worst):.2g} outside "
                f"the params and tokens it was measured at (at {si(worst[0])} params on "
                f"{si(worst[1])} tokens); tune at points nearer to it"
            )


def _short_grid(sweep: Spec) -> Iterator[str]:
    """Warn where the sizes end within the grid's range, so that it has fewer trials than asked."""
    space, wanted = sweep.space, sweep.search.sizes_per_budget
    if sweep.search.policy != "grid":
        return
    foreseen = GridSearch(sweep.search, space).foreseen()
    short = {flops: n for flops, n in foreseen.items() if n < wanted}
    if short:
        counts = ", ".join(f"{n} on {number(flops)}" for flops, n in short.items())
        yield (
            f"the grid has fewer sizes than search.sizes_per_budget={wanted} asks for ({counts} "
            f"FLOPs): its range leaves the {si(space.params[0])} to {si(space.params[-1])} params "
            "that can be trained; widen sizes.low..sizes.high, or lower search.half_width"
        )
