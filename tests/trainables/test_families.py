"""Every family is built as planned: sizes, FLOPs, training, and what a spec may say of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from trainables.config import TrialConfig
from trainables.context import LocalContext
from trainables.data import Data
from trainables.engine.loop import train
from trainables.engine.loss import Objective
from trainables.engine.model import Network, build, library_config
from trainables.engine.parallel import Group, _shard
from trainables.families import FAMILIES, Model, Shape
from trainables.families.tally import SCAN_FLOPS, mamba
from trainables.shapes import solve
from trainables.training import Train

logging.getLogger("transformers").setLevel(logging.ERROR)  # that fast kernels are missing


def small(family: str, **changes: Any) -> Model:
    """A model of the family with everything it has: groups, experts, two attending layers."""
    kind = FAMILIES[family]
    own: dict[str, Any] = {"vocabulary": 97, "context": 24, "layers": 4, "head_dim": 8}
    if kind.experts:
        own |= {"experts": 4, "active_experts": 2}
    if kind.every:
        own |= {"attention_every": 2}
    if family != "gpt_neox":
        own |= {"kv_groups": 2}
    return Model(family=family, **{**own, **changes})


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("params", [3e8, 7e9])
def test_planned_parameters_are_those_the_library_builds(family: str, params: float) -> None:
    tied = True if FAMILIES[family].always_tied else False
    model = Model(family=family, vocabulary=32_000, context=2048, kv_groups=4, tied=tied)
    shape = solve(params, model)
    with torch.device("meta"):
        causal = AutoModelForCausalLM.from_config(library_config(shape, attention="sdpa"))
    lookup = causal.get_input_embeddings().weight.numel()
    total = sum(weight.numel() for weight in causal.parameters())
    idle = sum(
        (shape.experts - shape.active_experts) * weight[0].numel()
        for name, weight in causal.named_parameters()
        if name.endswith(("experts.gate_up_proj", "experts.down_proj"))
    )
    assert shape.params_total == total
    assert shape.params_with_head == total - idle - (0 if tied else lookup)
    assert shape.params_without_embeddings == total - idle - lookup * (1 if tied else 2)
    assert shape.params_with_head == pytest.approx(params, rel=0.01)


def test_exact_flops_are_those_torch_counts(family: str) -> None:
    shape = solve(3e4, small(family))
    network = build(shape, seed=0, attention="eager")
    documents = torch.randint(shape.vocabulary, (2, shape.context))
    with FlopCounterMode(display=False) as counter:
        Objective(network, begin=0)(documents, len(documents))[0].backward()
    seen = {str(name): flops for name, flops in counter.get_flop_counts()["Global"].items()}
    products = sum(flops for name, flops in seen.items() if "convolution" not in name)
    planned = shape.flops_per_token("exact") - unseen(network, shape)
    assert products == pytest.approx(documents.numel() * planned, rel=1e-4)


def unseen(network: Network, shape: Shape) -> int:
    """Training FLOPs per token that torch counts wrongly or not at all.

    It takes the weight gradient of a grouped convolution for a full one, and does not see what a
    Mamba-1 scan does but its last product.
    """
    filters = sum(
        2 * layer.kernel_size[0] * layer.out_channels
        for layer in network.modules()
        if isinstance(layer, nn.Conv1d)
    )
    scans = sum(
        (SCAN_FLOPS - 2) * weight.numel()
        for name, weight in network.named_parameters()
        if shape.family == "jamba" and name.endswith("A_log")
    )
    return 3 * (filters + scans)


class Number(float):
    """A float that counts the operations it takes part in."""

    operations = 0

    def __add__(self, other: float) -> Number:
        Number.operations += 1
        return Number(float(self) + other)

    def __mul__(self, other: float) -> Number:
        Number.operations += 1
        return Number(float(self) * other)


def test_the_scan_that_torch_does_not_see_is_counted_by_hand() -> None:
    width, state = 3, 5
    Number.operations = 0
    for _ in range(2 * width):  # channels
        x, dt = Number(0.3), Number(0.1)
        y = Number(0.0)
        for _ in range(state):
            a, b, c, h = Number(-1.0), Number(0.2), Number(0.4), Number(0.5)
            decay = Number(2.718 ** (dt * a))
            h = decay * h + dt * b * x
            y = y + c * h
    filters = 2 * 4 * 2 * width
    assert mamba(width, state).forward == Number.operations + filters


def test_attention_is_counted_once_per_use_of_a_shared_block() -> None:
    shape = solve(3e4, small("zamba2"))
    once = solve(3e4, small("zamba2", attention_every=4))
    uses = shape.body.forward - once.body.forward
    # A second use costs its matrices and scores again, but adds only its own adapters.
    assert uses > 2 * 8 * shape.width**2
    assert 6 * shape.params_with_head < shape.flops_per_token("exact")


def test_the_seed_alone_decides_the_initial_weights(family: str) -> None:
    shape = solve(3e4, small(family))
    first, again, other = (
        nn.utils.parameters_to_vector(build(shape, seed=seed, attention="sdpa").parameters())
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_routers_are_paid_to_spread_tokens_evenly() -> None:
    shape = solve(3e4, small("mixtral", config={"router_aux_loss_coef": 0.5}))
    network = build(shape, seed=0, attention="sdpa")
    documents = torch.randint(shape.vocabulary, (2, shape.context))
    objective, nll = Objective(network, begin=0)(documents, len(documents))
    per_token = (objective.detach() - nll) / documents.numel()
    assert float(per_token) == pytest.approx(0.5 * shape.active_experts, rel=0.2)  # least if even
    objective.backward()
    gates = [w for name, w in network.named_parameters() if name.endswith("gate.weight")]
    assert all(gate.grad is not None for gate in gates)


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of this process alone, which FSDP needs."""
    store = tmp_path_factory.mktemp("group") / "store"
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_worker")
def test_every_family_can_be_sharded_and_recomputed(family: str) -> None:
    shape = solve(3e4, small(family))
    documents = torch.randint(shape.vocabulary, (2, shape.context))
    whole, meta = (build(shape, seed=0, attention="sdpa", meta=m).train() for m in (False, True))
    plain, sharded = Objective(whole, begin=0), Objective(meta, begin=0)
    group = Group(LocalContext(), torch.device("cpu"))
    sharded.network.causal.activation_checkpointing_enable({"use_reentrant": False})
    norms = []
    for objective in (plain, _shard(sharded, group, torch.float32, whole.state_dict())):
        objective(documents, len(documents))[0].backward()
        norms.append(nn.utils.clip_grad_norm_(objective.parameters(), 1.0))
    torch.testing.assert_close(norms[1].full_tensor(), norms[0], rtol=1e-4, atol=1e-4)


def test_no_token_sees_what_follows_it(family: str) -> None:
    shape = solve(3e4, small(family))
    network = build(shape, seed=0, attention="sdpa").eval()
    tokens = torch.randint(shape.vocabulary, (1, shape.context))
    changed = tokens.clone()
    changed[0, 12] = (changed[0, 12] + 1) % shape.vocabulary
    before, after = (network(t)[0] for t in (tokens, changed))
    torch.testing.assert_close(before[:12], after[:12], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before[12:], after[12:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "family", ["llama", "gpt_neox", "qwen3", "mamba2", "jamba", "zamba2", "lfm2", "mixtral"]
)
def test_every_family_learns_through_the_loop(family: str) -> None:
    model = small(family, vocabulary=256, context=60, layers=2)
    shape = solve(2e4, model)
    config = TrialConfig(
        shape,
        tokens=480 * 45,
        data=Data(evaluation_documents=4),
        train=Train(checkpoint_every_s=0),
        skills=("validation",),
    )
    record = train(config, LocalContext())
    assert record["status"] == "finished"
    assert record["params_total"] == shape.params_total
    validation = record["losses"]["validation"]
    assert validation["nll"] / validation["tokens"] < 4.9  # chance is ln 256 = 5.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"family": "qwen4"}, r"did you mean 'qwen\d'"),
        ({"experts": 4}, "llama has none"),
        ({"family": "mamba2", "ffn_ratio": 2.0}, "mamba2 has none"),
        ({"family": "jamba", "state": 0}, "must be positive"),
        ({"family": "mixtral", "experts": 2, "active_experts": 3}, "only 2 experts"),
        ({"family": "zamba2", "tied": False}, "shares its weights"),
        ({"config": {"rms_norm_epsilon": 1e-5}}, "did you mean 'rms_norm_eps'"),
        ({"config": {"hidden_size": 64}}, "follows from the size"),
        ({"config": "no/such.json"}, "cannot be read"),
    ],
)
def test_what_a_family_does_not_have_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Model(**fields)


def test_further_fields_reach_the_library_and_may_not_change_the_size() -> None:
    shape = solve(3e4, small("qwen3", config={"rms_norm_eps": 1e-3, "attention_bias": True}))
    network = build(shape, seed=0, attention="sdpa")
    assert network.causal.config.rms_norm_eps == 1e-3
    assert shape.params_total == sum(weight.numel() for weight in network.parameters())


def test_a_config_json_gives_family_and_proportions(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    published = {
        "model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 28, "head_dim": 128,
        "num_attention_heads": 16, "num_key_value_heads": 8, "intermediate_size": 3072,
        "vocab_size": 151936, "tie_word_embeddings": True, "rope_theta": 1000000,
        "rms_norm_eps": 1e-6, "torch_dtype": "bfloat16", "architectures": ["Qwen3ForCausalLM"],
    }  # fmt: skip
    path.write_text(json.dumps(published))
    model = Model(config=str(path), vocabulary=512, ffn_ratio=2.5)
    assert (model.family, model.kv_groups, model.head_dim) == ("qwen3", 2, 128)
    assert (model.vocabulary, model.ffn_ratio) == (512, 2.5)  # the spec's own
    assert model.aspect == pytest.approx(1024 / 28)
    assert model.config == {"rope_theta": 1000000, "rms_norm_eps": 1e-6}
    shape = solve(2e5, model)
    built = build(shape, seed=0, attention="sdpa").causal.config
    assert built.rope_parameters["rope_theta"] == 1000000
    path.write_text(json.dumps(published | {"model_type": "t5"}))
    with pytest.raises(ValueError, match="model_type 't5'"):
        Model(config=str(path))
