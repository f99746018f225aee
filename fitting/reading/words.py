"""What a column's header says: its words, its unit, and which part of a table it may be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from fitting.reading.numbers import PF_DAY, PF_DAYS, SCALES, number

AMOUNTS = ("flops", "params", "tokens")

CONTAINERS = frozenset(
    "config summary metrics hparams args tags hp cfg data history throughput results "
    "all_results".split()
)
"""Leading parts of flattened names (W&B, MLflow, Lightning) that say nothing of the value."""

_EVALUATION = frozenset(
    "val valid validation eval evaluation test heldout dev validierungsverlust".split()
)
_SYNONYMS = {word: () for word in _EVALUATION} | {
    word: tuple(meaning.split())
    for meaning, words in {
        "params": "param parameter parameters nparams numparams paramcount weights parameterzahl "
                  "paramètres parámetros",
        "tokens": "token tok toks ntokens numtokens jetons",
        "flops": "flop flos",
        "compute": "rechenaufwand",
        "loss": "losses nats verlust validierungsverlust perte pérdida",
        "non embedding": "nonembedding nonembed nonemb noemb nonembeddings",
        "embedding": "emb embed embeds embeddings",
        "nll": "ce xent crossentropy xentropy logloss",
        "bits per byte": "bpb",
        "bits per character": "bpc",
        "perplexity": "ppl pplx",
        "active": "activated",
        "accuracy": "acc",
        "learning rate": "lr",
        "flops pfdays": "pfdays",
        "log10": "lg",
    }.items()
    for word in words.split()
}  # fmt: skip
_FILLER = frozenset(
    "n num number of total count the trainable model all in m final last mean avg average overall "
    "value end lm per_token nominal target actual measured approx estimated".split()
)
_AMOUNT_WORDS = {
    "params": (
        frozenset({"params"}),
        _FILLER | set("non embedding excluding excl without no incl including with active size "
                      "training train transformer body backbone head experts".split()),
    ),
    "tokens": (
        frozenset({"tokens"}),
        _FILLER | set("train training trainings trained seen consumed processed pretrain "
                      "pretraining input budget dataset data d".split()),
    ),
    "flops": (
        frozenset({"flops", "compute", "budget", "isoflop"}),
        _FILLER | set("train training trained pretraining pretrain c used spent group "
                      "forward fwd isoflop iso est".split()),
    ),
}  # fmt: skip
_NAMES = {
    "params": set("n p size model model_size modelsize n_non_embedding n_active n_total".split()),
    "tokens": set("d t data_size dataset_size datasize training_data".split()),
    "flops": set("c pfdays 6nd 6_n_d".split()),
    "loss": {"l", "l_n_d"},
    "skill": set("skill task benchmark domain eval_set eval_name eval_task eval_dataset "
                 "val_set test_set validation_set subset eval metric".split()),
    "trial_id": set("trial_id trial run run_id runid run_name id name uid experiment_name "
                    "job_id run_path path exp_name mlflow_run_name hash".split()),
    "seed": set("seed random_seed init_seed replicate rep data_seed".split()),
    "mix": set("mix data_mix mixture data_mixture".split()),
    "status": set("status state run_state job_state job_status exit_code outcome progress done ok "
                  "final finished completed converged succeeded success failed crashed diverged "
                  "oom excluded exclude included include outlier stable is_valid termination "
                  "termination_reason exit_reason stop_reason end_reason exit_status".split()),
    "remark": set("note notes comment comments remark remarks issue issues problem "
                  "problems".split()),
    "fault": set("error errors err error_message error_msg exception exceptions traceback fault "
                 "failure failures failure_reason fail_reason failure_message".split()),
    "step": set("step steps iteration iterations iter iters global_step train_steps num_steps "
                "n_steps num_iterations training_steps optimizer_step trainer_global_step "
                "max_iters max_steps total_steps".split()),
    "epochs": set("epoch epochs num_epochs n_epochs repeats repetitions data_epochs".split()),
    "unique_tokens": set("unique_tokens dataset_tokens unique_data".split()),
    "tokens_per_param": set("tokens_per_param tokens_per_params tpp token_param_ratio "
                            "tokens_params_ratio tokens_params t_p d_n tokens_n".split()),
    "batch_tokens": set("batch_tokens tokens_per_batch tokens_per_step tokens_step "
                        "total_batch_size global_batch_tokens tokens_per_iter "
                        "batch_size_tokens".split()),
}  # fmt: skip
_LOSSES = frozenset({"loss", "nll", "perplexity"})
_TEXT = frozenset("byte bytes character characters char chars word words token tokens".split())
"""What bits are of where they are a loss."""

_METRICS = frozenset(
    "accuracy em f1 score bleu rouge mmlu pass pass1 win winrate reward elo core exact "
    "match".split()
)
_TRAINING = frozenset("train training".split())
_LOSS_WORDS = frozenset(
    "l per bits byte character word cross entropy exp log ln log2 token tokens best min negative "
    "likelihood".split()
)
_OF_A_RUN = frozenset(
    "max median ema smooth smoothed moving running rolling raw weighted masked".split()
)
"""Other figures of one run's loss: taken where no plain one is there."""

_NOT_A_LOSS = frozenset(
    "scale std stderr se sem err error ci var z aux router balance balancing load grad norm "
    "weight delta diff gap ratio time count rank threshold kl regularization mtp curve spike "
    "spikes coef coefficient log10 lower upper predicted prediction pred fitted hat residual "
    "irreducible reducible distill distillation δ vs versus improvement reduction gain change "
    "decrease increase excess regret penalty".split()
)
"""Bounds, predictions, differences and parts of a loss."""

_OTHERS = frozenset(
    "lo hi low high expected fit baseline teacher kd init initial start first prev previous "
    "chinchilla at".split()
)
"""Not the run's own loss at its end, where nothing else is said (first-sentences is a skill)."""

_PLAIN = _LOSSES | _FILLER | _TRAINING | _LOSS_WORDS | _OF_A_RUN
"""Words of a loss that say nothing of what it is measured on."""

_STEPS = frozenset("step steps iter iters".split())
_SUITES = frozenset(
    "paloma c4 pile wikitext lambada fineweb slimpajama dclm openwebtext wikipedia macro micro "
    "uncheatable".split()
)


@dataclass(frozen=True)
class Header:
    """A column's header, taken apart.

    Attributes:
        column: as the table has it.
        words: its words, lower case, without unit and container.
        unit: multiplies cells that name no scale of their own.
        evaluation: whether it says val, eval, test or the like.
    """

    column: str
    words: tuple[str, ...]
    unit: float = 1.0
    evaluation: bool = False

    @property
    def key(self) -> str:
        """The words as one name."""
        return "_".join(self.words)

    @cached_property
    def role(self) -> str:
        """Part of the table it may be: params, tokens, flops, loss, metric, skill ..., or ""."""
        # Evaluation words are dropped: val_set and eval_tokens are told by the header itself.
        own = re.sub(r"[^a-z0-9]+", "_", self.column.lower()).strip("_")
        plain = re.sub(r"^(?:is|has|was)_", "", own)  # a question: is_failed, has_diverged
        for role, names in _NAMES.items():
            if (
                own in names
                or (role == "status" and plain in names)
                or (self.key in names and not self.evaluation)
            ):
                return role
        if self.logarithm == "log10":
            return ""
        for role, (needed, allowed) in _AMOUNT_WORDS.items():
            if needed & set(self.words) and set(self.words) <= needed | allowed:
                return "" if self.evaluation or self._component or "%" in self.column else role
        words = set(self.words) | {re.sub(r"(?<=[a-z])\d+$", "", w) for w in self.words}  # ci95
        measure = "metric" if words & _METRICS or "↑" in self.column else ""
        if words & _NOT_A_LOSS or (words & _STEPS and not words & {"final", "last"}):
            return measure
        if "↑" in self.column or (words & _OTHERS and words <= _PLAIN | _OTHERS):
            return measure
        if self._on_the_way:
            return measure
        only_text = self.names_text and set(self.words) <= _SUITES | _FILLER | _TRAINING
        return "loss" if self.names_loss or only_text else measure

    @property
    def _on_the_way(self) -> bool:
        """Whether a loss was measured at some count, before the end (loss@1e9, loss_10b)."""
        named = {w for w in self.words if not w.isdigit()}
        counts = {w for w in named if re.fullmatch(r"\d*e\d+|\d+[mbt]", w)}
        return bool(counts) and named - counts <= _PLAIN | _OTHERS

    @property
    def logarithm(self) -> str:
        """The word by which it says that it holds logarithms: log10, log, ln or none."""
        return next((w for w in self.words if w in ("log10", "log", "ln")), "")

    @property
    def names_loss(self) -> bool:
        """Whether it says loss, perplexity, or bits of text."""
        words = set(self.words)
        return bool(words & _LOSSES or ("bits" in words and words & _TEXT))

    @property
    def names_text(self) -> bool:
        """Whether it names a text that losses are usually measured on."""
        return bool(_SUITES & set(self.words))

    @property
    def _component(self) -> bool:
        """Parameters of one part of the model: embedding, head."""
        words = set(self.words)
        outside = words & {"non", "excluding", "excl", "without", "no", "incl", "including",
                           "with", "total"}  # fmt: skip
        return bool(words & {"embedding", "head"}) and not outside

    @cached_property
    def kind(self) -> str:
        """Of a loss: nats, bits or perplexity (per byte, ...); of params: active, body, total; of
        flops: forward."""
        words = set(self.words)
        if words & _LOSSES or words & {"bits", "l"}:
            per = next((f" per {w.rstrip('s')}" for w in self.words if w in _TEXT), "")
            if words & {"perplexity", "exp"} and not words & {"log", "ln", "log2"}:
                return f"perplexity{per or ' per token'}"
            return f"bits{per}" if words & {"bits", "log2"} else "nats"
        if "active" in words:
            return "active"
        if words & {"forward", "fwd"}:
            return "forward"
        if "params" in words and words & {"non", "excluding", "excl", "without", "no",
                                          "transformer", "body", "backbone"}:  # fmt: skip
            return "body"
        return "total" if "total" in words and self.role != "loss" else ""

    @cached_property
    def subject(self) -> str:
        """Of a loss: what it is measured on, "" where it only says loss."""
        own = (w for w in self.words if w not in _PLAIN and not w.isdigit())
        return " ".join(w for w in own if not re.fullmatch(r"(?:seed|rep|run)\d+", w))

    @property
    def training(self) -> bool:
        """Of a loss: whether it says that it was measured in training."""
        return bool(_TRAINING & set(self.words)) and not self.evaluation

    @property
    def rank(self) -> int:
        """Of a loss: final before the best and the smallest of a run, these before the others."""
        return 2 if _OF_A_RUN & set(self.words) else int(bool({"best", "min"} & set(self.words)))


@lru_cache(maxsize=4096, typed=True)
def parse(column: object, containers: frozenset[str] = CONTAINERS) -> Header:
    """Take a header apart."""
    text = re.sub(r"<br\s*/?>", " ", str(column).strip())
    if re.search(r"[(\[]\s*(?:us)?[$€£]|[€£]|\b(?:usd|eur|dollars?)\b", text.lower()):
        return Header(str(column), ("money",))
    text = re.sub(r"[`$\\]|(?<![\d*])\*+|\*+(?![\d*])|^#\s*|(?<=[A-Za-z])[¹²³⁰-⁹†‡]+$", "", text)
    text, unit = _bracketed(text)
    parts = [part for part in re.split(r"[./|]| - ", text) if part.strip()]
    while len(parts) > 1 and parts[0].strip().lower() in containers:
        parts = parts[1:]
    if len(parts) > 1 and parts[-1].lower() == "value":
        parts = parts[:-1]
    words: list[str] = []
    evaluation = False
    for part in parts:
        part = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z]{2})(?=[A-Z])", " ", part)
        for word in re.findall(r"[^\W_]+", part.lower()):
            evaluation |= word in _EVALUATION
            words += _SYNONYMS.get(word, (word,))
    words, unit = _trailing_unit(_joined(words), unit)
    return Header(str(column), tuple(words), unit, evaluation)


def parse_all(columns: Iterable[object]) -> list[Header]:
    """Headers; where MLflow or Neptune wrote them, `params.` is a container and not a count."""
    columns = list(columns)
    tracked = any(str(c).startswith(("metrics.", "metrics/")) for c in columns)
    known = CONTAINERS | {"params", "parameters"} if tracked else CONTAINERS
    return [parse(c, known) for c in columns]


def unit_of(text: str) -> float | None:
    """What a unit in brackets multiplies by, None where it is no unit."""
    plain = re.sub(r"^(?:in|×|x|\*)\s*|^nats.*|\s*(?:of\s+)?(?:tokens?|params?|parameters)$|\.$",
                   "", text.strip().lower())  # fmt: skip
    if plain in SCALES:
        return SCALES[plain]
    if plain in ("", "flops", "flop", "nats/token", "#", "count"):
        return 1.0
    if re.fullmatch(PF_DAYS, plain):
        return PF_DAY
    scaled = re.fullmatch(r"(\w+?)[-\s]?flops?", plain)
    if scaled and scaled[1] in SCALES:
        return SCALES[scaled[1]]
    value = number(f"1{plain}" if re.fullmatch(r"e\d+", plain) else plain)
    return value if value > 1 else None


def _bracketed(text: str) -> tuple[str, float]:
    """The header without a unit in brackets or after a slash, and that unit."""
    for found in re.finditer(r"(?<!log)(?<!log10)(?<!ln)[(\[]([^)\]]*)[)\]]", text):
        unit = unit_of(found[1])
        if unit is not None:
            return (text[: found.start()] + " " + text[found.end() :]).strip(), unit
    last = re.search(r"\s*(?:/|,|\bin\b|\s[x×])\s*(\S+)\s*$", text)
    if last and last.start() and (unit := unit_of(last[1])) and unit > 1:
        return text[: last.start()], unit
    return text, 1.0


def _joined(words: list[str]) -> list[str]:
    """Words that are written apart or together: cross entropy, petaflops, PF days, held out."""
    text = " ".join(words)
    for pattern, meaning in (
        (r"\bcross entropy\b|\blog loss\b|\bnegative log likelihood\b", "nll"),
        (r"\b(?:peta ?flops?|pf(?:lops?)?)(?: s)? days?\b|\bflops pfdays\b", "flops pfdays"),
        (r"\b(kilo|mega|giga|tera|peta|exa|zetta) flops\b", r"flops \1"),
        (r"\b([kmgtpez])flops?\b|\b(kilo|mega|giga|tera|peta|exa|zetta)flops?\b", r"flops \1\2"),
        (r"\bpetaflops?\b", "flops peta"),
        (r"\b([kmbgt]) ?(params|tokens)\b", r"\2 \1"),
    ):
        text = re.sub(pattern, meaning, text)
    return text.split()


def _trailing_unit(words: list[str], unit: float) -> tuple[list[str], float]:
    """Words without the unit at their end (params_b, tokens_in_millions, flops_1e18), and it."""
    amounts = {"params", "tokens", "flops", "size", "compute", "n", "d"}
    if len(words) < 2 or not amounts & set(words):
        return words, unit
    last = words[-1]
    if last == "pfdays":
        return words[:-1], unit * PF_DAY
    found = SCALES.get(last, 1.0)
    if power := re.fullmatch(r"(?:1?e|10)(\d\d?)", last):
        found = 10.0 ** int(power[1])
    if not found or found <= 1:
        return words, unit
    kept = words[:-1]
    return (kept[:-1] if kept[-1] in ("in", "x") else kept), unit * found
