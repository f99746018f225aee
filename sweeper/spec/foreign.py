"""A sweep that a foreign trainer trains: its sizes, its allocations, what its command may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shutil import which
from typing import Any

from sweeper.budget import Allocation, Space
from sweeper.errors import SpecError, did_you_mean
from sweeper.spec.sections import Cluster, Sizes
from sweeper.text import number, si
from trainables.data import Data, Own
from trainables.families import Shape
from trainables.foreign import ladder
from trainables.foreign.imports import require
from trainables.foreign.ladder import Rung
from trainables.foreign.placeholders import ALWAYS, Value, check, names_in
from trainables.foreign.settings import Trainer
from trainables.foreign.trial import ForeignTrial
from trainables.recipe import fewest_tokens, recipe
from trainables.training import Train

RECIPE = ("learning_rate", "batch", "batch_tokens", "beta2", "warmup_steps", "steps")
"""Placeholders that `train` decides: peak rate, sequences and tokens per step, ..."""

STEPPED = ("batch", "batch_tokens", "steps", "warmup_steps")
"""Those of them by which a trainer takes whole steps of our batch."""

MOST_ROUNDING = 0.01
"""Largest share of a budget that is lost to whole granules."""

LEAST_TOKENS_PER_PARAM = 0.1
"""Fewest tokens per parameter of a trial (assumption: no optimum that was published lies within a
factor ten of it, Hoffmann et al. 2022 have 20)."""

LEAST_SIZES = 3
"""Sizes that a budget needs: fewer have no curve."""

Size = Shape | Rung


def rungs(sizes: Sizes, granule: int) -> dict[int, Rung]:
    """The sizes of a ladder within its range, by params; none without one."""
    rows = () if isinstance(sizes.ladder, str) else sizes.ladder
    found = {int(row["params"]): Rung(int(row["params"]), granule, row) for row in rows}
    return {p: size for p, size in found.items() if (sizes.low or 0) <= p <= (sizes.high or p)}


def filled_in(trainer: Trainer | None, sizes: Sizes, data: Data, flops: str) -> dict[str, Any]:
    """Fields of a spec that follow from its trainer: the rows of the ladder, the data, the FLOPs.

    Raises:
        SpecError: the ladder cannot be read, or what the spec says contradicts the trainer.
    """
    if trainer is None:
        if sizes.ladder:
            raise SpecError(
                "sizes.ladder: say by trainer what trains its sizes; our own loop makes its own"
            )
        return {}
    found: dict[str, Any] = {}
    if data == Data():
        found["data"] = Own()
    elif data.source != "own":
        raise SpecError(
            f"data.source: {data.source}: a trainer brings its own data; write data: "
            "{source: own, shares: {code: .2, web: .8}}, or leave data out"
        )
    if sizes.ladder:
        try:
            rows = tuple(ladder.read(sizes.ladder, trainer.workdir))
        except ValueError as error:
            raise SpecError(str(error)) from None
        found["sizes"] = replace(sizes, ladder=rows)
        if "flops_per_token" in rows[0]:
            found["flops"] = "exact"
        elif flops == "exact":
            raise SpecError("flops: exact: sizes.ladder needs a column flops_per_token for it")
    return found


def identity(trainer: Trainer) -> dict[str, Any]:
    """What of a trainer decides outcomes and what is measured of them."""
    read = trainer.losses and asdict(trainer.losses)
    return {**trainer.identity(), "skills": dict(trainer.skills), "losses": read}


def check_space(space: Space) -> None:
    """Refuse budgets on which too few sizes of a ladder can be trained.

    Raises:
        SpecError: names the budget.
    """
    for budget in space.budgets:
        allowed = space.allowed(budget)
        if len(allowed) < LEAST_SIZES:
            raise SpecError(
                f"sizes.ladder: {len(allowed)} of its {len(space.params)} sizes "
                f"({si(space.params[0])} to {si(space.params[-1])} params) can be trained on the "
                f"budget {number(budget)}: a trial needs {LEAST_TOKENS_PER_PARAM:g} tokens per "
                f"param and {MOST_ROUNDING**-1:.0f} times trainer.granule; a budget needs "
                f"{LEAST_SIZES} sizes. Add smaller ones, or raise the budget"
            )


def columns(size: Size) -> dict[str, Value]:
    """What a command may name of a size: its row of the ladder, or its dimensions."""
    if isinstance(size, Rung):
        return dict(size.columns)
    found = {k: v for k, v in asdict(size).items() if isinstance(v, int | float | str)}
    counts = ("params_total", "params_without_embeddings")
    return {**found, "tied": int(size.tied), **{name: getattr(size, name) for name in counts}}


def named(trainer: Trainer) -> set[str]:
    """The placeholders of a trainer's command."""
    return {name for argument in trainer.command for name in names_in(argument)}


def used_recipe(trainer: Trainer, train: Train, size: Size, tokens: int) -> dict[str, Value]:
    """The part of the recipe that a trainer is given: what it names, or all for a function.

    Raises:
        SpecError: the command names a part that cannot be worked out.
    """
    asked = set(RECIPE) if trainer.call else named(trainer) & set(RECIPE)
    wanted = asked - columns(size).keys()
    if not wanted:
        return {}
    try:
        found = recipe(train, size, tokens)
    except ValueError as error:
        if trainer.call:
            return {}
        names = ", ".join(f"{{{name}}}" for name in sorted(wanted))
        raise SpecError(f"trainer.command: {names}: {error}") from None
    values: dict[str, Value] = {
        "learning_rate": found.learning_rate,
        "batch": found.batch,
        "batch_tokens": found.batch * size.context,
        "beta2": found.beta2,
        "warmup_steps": found.warmup,
        "steps": found.steps,
    }
    return {name: value for name, value in values.items() if name in wanted}


def trial(
    trainer: Trainer,
    size: Size,
    allocation: Allocation,
    train: Train,
    *,
    shares: Mapping[str, float],
    skills: tuple[str, ...],
) -> ForeignTrial:
    """The training of an allocation by a trainer of the user's."""
    return ForeignTrial(
        trainer=trainer,
        params=allocation.params,
        tokens=allocation.tokens,
        seed=allocation.seed,
        flops=allocation.flops,
        mix=allocation.mix,
        flops_per_token=float(size.flops_per_token("exact")),
        row=columns(size),
        recipe=used_recipe(trainer, train, size, allocation.tokens),
        shares=shares,
        skills=skills,
    )


def fewest(trainer: Trainer, train: Train, size: Size, steps: int) -> int:
    """Fewest tokens of a trial of a size: steps enough, and a budget met within 1 %."""
    least = max(trainer.granule / MOST_ROUNDING, LEAST_TOKENS_PER_PARAM * size.params_with_head)
    stepped = bool(named(trainer) & set(STEPPED) - columns(size).keys())
    return max(int(least), fewest_tokens(train, size, steps) if stepped else 0)


def check_trainer(
    trainer: Trainer, sizes: Mapping[int, Size], classes: Sequence[str], skills: Sequence[str]
) -> None:
    """Refuse what a trainer cannot be given, before anything runs.

    Args:
        classes: of documents, for ``{share.CLASS}``.

    Raises:
        SpecError: an unknown placeholder or skill, or a function that is not there.
    """
    shared = set.intersection(*(set(columns(size)) for size in sizes.values()))
    known = dict.fromkeys(
        [*ALWAYS, *sorted(shared), *RECIPE, *(f"share.{name}" for name in classes)]
    )
    try:
        check(trainer.command, list(known), field="trainer.command")
        check(trainer.evaluate, list(known), field="trainer.evaluate")
        if trainer.call:
            require(trainer.call, trainer.workdir, field="trainer.call")
    except ValueError as error:
        raise SpecError(str(error)) from None
    for name in skills:
        if name not in trainer.skills:
            near = did_you_mean(name, trainer.skills)
            raise SpecError(
                f"skills: {name!r} is unknown{near}; trainer.skills names "
                f"{', '.join(trainer.skills)}"
            )


def require_resources(cluster: Cluster) -> None:
    """Refuse to guess how many GPUs trials of unknown memory hold.

    Raises:
        SpecError: the spec has no rules.
    """
    if cluster.hardware.is_gpu and not cluster.resources:
        raise SpecError(
            "cluster.resources: what a model of sizes.ladder needs of memory is not known; say "
            "what its trials hold, by size, such as resources: [{gpus: 1, cpus: 8}, "
            "{from_params: 3e9, gpus: 8, cpus: 64}]"
        )


def missing_program(trainer: Trainer) -> str:
    """Why a command cannot be started on this machine, or ""."""
    place = Path(trainer.workdir)
    if not place.is_dir():
        return f"trainer.workdir: there is no directory {place}"
    if not trainer.command:
        return ""
    program, *rest = trainer.command
    found = "{" in program or which(str(place / program) if "/" in program else program)
    if not found:
        return (
            f"trainer.command: there is no program {program!r} here; install it, or give its path"
        )
    script = next((each for each in rest if each.endswith(".py") and "{" not in each), "")
    if script and not script.startswith("-") and not (place / script).exists():
        return f"trainer.command: there is no {script} in {place}; set trainer.workdir"
    return ""
