"""What a record says of the processor: x86 with and without AVX-512, ARM, and a machine that does not tell."""

import json
import platform

import pytest

from stages.store.processor import processor
from stages.store.record import recording

OLD = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC
flags\t\t: fpu sse sse4_2 avx f16c fma avx2 rdseed

processor\t: 1
model name\t: another one
flags\t\t: avx512f
"""
NEW = """processor\t: 0
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: sse4_2 avx f16c fma avx2 avx512f avx512bw avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8
"""
ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd asimdhp asimddp sve bf16 i8mm
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
"""


@pytest.fixture
def asked(tmp_path):
    def ask(text, **environment):
        path = tmp_path / "cpuinfo"
        path.write_text(text)
        return processor(path, environment)

    return ask


def test_x86_without_avx512(asked):
    found = asked(OLD)
    assert found["name"] == "AMD EPYC (family 25 model 1)"
    assert found["instructions"] == ["sse4_2", "avx", "f16c", "fma", "avx2"]
    assert found["held"] == {}


def test_x86_with_avx512_and_amx(asked):
    found = asked(NEW)
    assert found["name"] == "Intel(R) Xeon(R) Platinum 8481C (family 6 model 143)"
    assert {"avx512f", "avx512_bf16", "amx_tile", "amx_bf16"} <= set(found["instructions"])


def test_arm_has_numbers_for_a_name(asked):
    found = asked(ARM)
    assert found["name"] == "ARM implementer 0x41 part 0xd40 variant 0x1"
    assert found["instructions"] == ["asimd", "asimdhp", "asimddp", "sve", "bf16", "i8mm"]


@pytest.mark.parametrize("text", [None, "", "nonsense without a colon\n\x00"])
def test_a_machine_that_does_not_tell(asked, tmp_path, text):
    found = processor(tmp_path / "none", {}) if text is None else asked(text)
    assert found["name"] == (platform.processor() or platform.machine())
    assert found["instructions"] == []


def test_what_the_libraries_are_held_to_is_said(asked):
    held = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    assert asked(NEW, **held, MKL_CBWR="", HOME="/root")["held"] == held


def test_torch_names_its_kernels_and_libraries(asked):
    import torch

    found = asked(NEW)
    assert found["kernels"] == torch.backends.cpu.get_cpu_capability()
    assert all(version[0].isdigit() for version in found["libraries"].values())


def test_every_record_has_it(tmp_path):
    with recording(tmp_path, "train", params={}):
        pass
    found = json.loads((tmp_path / "record-train.json").read_text())["processor"]
    assert found["name"] and isinstance(found["instructions"], list) and isinstance(found["held"], dict)
