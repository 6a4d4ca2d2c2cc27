"""The processor of a result and what its libraries are held to: equal seeds round differently on another one."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = (  # that kernels are chosen by; the names of Linux, x86 first, then ARM
    *("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "sve", "sve2", "bf16", "i8mm"),
)
HELD = (  # variables that keep torch, oneDNN, MKL or OpenBLAS from the best kernels of a processor
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
    "OPENBLAS_CORETYPE",
)
LIBRARIES = {"mkl": r"oneAPI Math Kernel Library Version (\S+)", "onednn": r"MKL-DNN v(\S+)"}


def processor(cpuinfo: Path = CPUINFO, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Name, instruction sets, what holds the libraries back, and which kernels torch takes.

    Without a readable `cpuinfo` (macOS, Windows) the name is the platform's and `instructions` is empty. `kernels` and
    `libraries` need torch, and are left out if nothing has imported it.
    """
    fields = _fields(cpuinfo)
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    described: dict[str, Any] = {
        "name": _name(fields),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "held": {name: environment[name] for name in HELD if environment.get(name)},
    }
    torch = sys.modules.get("torch")
    if torch is None:
        return described
    built = torch.__config__.show()
    versions = {name: found[1] for name, pattern in LIBRARIES.items() if (found := re.search(pattern, built))}
    return described | {"kernels": torch.backends.cpu.get_cpu_capability(), "libraries": versions}


def _fields(cpuinfo: Path) -> dict[str, str]:
    """The fields of the first processor, and of the lines about all of them, by names in small letters."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and value.strip():
            fields.setdefault(key.strip().lower(), value.strip())
    return fields


def _name(fields: Mapping[str, str]) -> str:
    """The model's name and numbers: virtual machines call different models alike. ARM has numbers alone."""
    if "cpu part" in fields:
        maker = fields.get("cpu implementer", "unknown")
        named = f"ARM implementer {maker} part {fields['cpu part']} variant {fields.get('cpu variant', 'unknown')}"
        return f"{model} ({named})" if (model := fields.get("model name") or fields.get("model")) else named
    name = fields.get("model name") or platform.processor() or platform.machine() or "unknown"
    numbers = [f"{word} {fields[key]}" for word, key in (("family", "cpu family"), ("model", "model")) if key in fields]
    return f"{name} ({' '.join(numbers)})" if numbers else name
