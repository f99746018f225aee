from __future__ import annotations

from pathlib import Path

import pytest

from sweeper import Cluster, SpecError, Sweep
from sweeper.spec.devices import DEVICES, OwnDevice, device_of, local


def driver(tmp_path: Path, model: str) -> Path:
    card = tmp_path / "0000:00:1e.0"
    card.mkdir(parents=True)
    (card / "information").write_text(f"Model: \t\t {model}\nIRQ: 10\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", "a100-40"), ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"), ("NVIDIA GeForce RTX 5090", "rtx5090"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"), ("Tesla V100-SXM2-16GB", "v100-16"),
        ("Tesla V100-SXM2-32GB", "v100"), ("Tesla T4", "t4"), ("NVIDIA A10G", "a10g"),
        ("NVIDIA L40S", "l40s"), ("NVIDIA L4", "l4"), ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA B200", "b200"),
    ],
)  # fmt: skip
def test_a_driver_names_its_gpu(tmp_path: Path, model: str, name: str) -> None:
    assert local(driver(tmp_path, model)) == name


@pytest.mark.parametrize("model", ["NVIDIA GeForce RTX 3090 Ti", "NVIDIA L40", "Quadro RTX 8000"])
def test_an_unknown_gpu_is_no_core(tmp_path: Path, model: str) -> None:
    with pytest.raises(SpecError, match="peak: 165e12, memory: 24e9"):
        local(driver(tmp_path, model))


def test_names_as_people_write_them() -> None:
    assert device_of("RTX 4090") == device_of("4090") == DEVICES["rtx4090"]
    assert device_of("H100") == DEVICES["h100"]
    assert device_of("Apple") == DEVICES["cpu-core"]
    with pytest.raises(SpecError, match="any other by its data sheet"):
        device_of("tpu-v5")


def test_what_a_refusal_offers_is_taken_by_options_and_specs() -> None:
    with pytest.raises(SpecError) as refused:
        device_of("tpu-v5", field="--device")
    sheet = str(refused.value).split("bytes: ")[1].split(",")[0]
    assert device_of(sheet) == device_of(OwnDevice(165e12, 24e9))
    assert Cluster(device=sheet).hardware.is_gpu
    with pytest.raises(SpecError, match=r"--device='165:24': .* write both in full"):
        device_of("165:24", field="--device")


def test_a_data_sheet_stands_for_a_device(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    sheet = "{peak: 165e12, memory: 24e9}"
    path.write_text(f"budgets: [1e18]\nallowance: 1e19\ncluster: {{device: {sheet}}}\n")
    sweep = Sweep.load(path)
    assert sweep.cluster.hardware.peak_flops == 165e12 and sweep.cluster.hardware.is_gpu
    assert Sweep.from_dict(sweep.to_dict()) == sweep
    assert "165 TFLOP/s, 24 GB" in sweep.plan().device
    with pytest.raises(ValueError, match="write both in full"):
        OwnDevice(165.0, 24.0)
