"""What a run computes on: packages, processor, GPUs and driver, threads, and the variables that change numbers."""

import ctypes
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Names, never a pattern: what else is set may be a secret. None of these holds one, or a place on a machine.
NUMBERS = (
    "OMP_NUM_THREADS",
    "OMP_DYNAMIC",
    "OMP_SCHEDULE",
    "MKL_NUM_THREADS",
    "MKL_DOMAIN_NUM_THREADS",
    "MKL_DYNAMIC",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DISABLE_FAST_MM",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "VECLIB_MAXIMUM_THREADS",
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUBLASLT_WORKSPACE_SIZE",
    "NVIDIA_TF32_OVERRIDE",
    "NCCL_ALGO",
    "NCCL_PROTO",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "TORCH_CUBLASLT_UNIFIED_WORKSPACE",
    "TORCH_CUDNN_SDPA_DEPRIORITIZED",
    "TORCH_CUDNN_USE_HEURISTIC_MODE_B",
    "TORCH_CUDNN_V8_API_DISABLED",
    "TORCH_LINALG_PREFER_CUSOLVER",
    "TORCH_COMPILE_DISABLE",
    "TORCHDYNAMO_DISABLE",
    "TORCHINDUCTOR_DETERMINISTIC",
    "TORCHINDUCTOR_EMULATE_PRECISION_CASTS",
    "TORCHINDUCTOR_FREEZING",
    "TORCHINDUCTOR_MAX_AUTOTUNE",
    "TORCHINDUCTOR_MAX_AUTOTUNE_GEMM",
    "TORCHINDUCTOR_USE_FAST_MATH",
    "PYTHONHASHSEED",
)
CHOICE = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")  # which of the machine's GPUs: of no meaning on another one
INSTALLED = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info")
UNVERSIONED = ".egg-info"
LONGEST = 200  # letters of a variable's value
GPUS, NAME_LENGTH = 64, 96  # more than a machine has; as long as NVML's names can be
DRIVER = Path("/proc/driver/nvidia/version")


def machine(threads: int | None = None) -> dict[str, Any]:
    """What of the machine and the installation decides on numbers, as plain JSON types.

    `threads`: that the run will have; None: those that torch takes by itself.
    """
    import torch

    return {
        "cpu": cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": threads or torch.get_num_threads(),
        "cuda": torch.version.cuda,
        **gpus(),
        "variables": variables(),
        "packages": dict(installed_packages()),
    }


def variables() -> dict[str, str]:
    """Of the named variables those that are set."""
    return {name: os.environ[name][:LONGEST] for name in (*NUMBERS, *CHOICE) if name in os.environ}


@cache
def installed_packages() -> dict[str, str]:
    """Version by normalised name of every installed distribution; of two of a name the one that is imported.

    From the names of their folders: reading what is in them takes a fifth of a second.
    """
    found: dict[str, str] = {}
    for folder in dict.fromkeys(sys.path):
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:  # not there, or an archive
            continue
        for name in names:
            if matched := INSTALLED.fullmatch(name):
                found.setdefault(normalised(matched["name"]), matched["version"])
            elif name.endswith(UNVERSIONED):
                own = name.removesuffix(UNVERSIONED)
                found.setdefault(normalised(own), installed_version(own) or "")
    return dict(sorted(found.items()))


def normalised(package: str) -> str:
    """A distribution's name as all its spellings have in common: `ruamel.yaml` and `ruamel_yaml` are `ruamel-yaml`."""
    return re.sub(r"[-_.]+", "-", package).lower()


def installed_version(package: str) -> str | None:
    """The installed version of a distribution, without importing it; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def cpu_model() -> str:
    """As the system names the processor; nothing if it does not."""
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except (OSError, subprocess.SubprocessError):
        pass  # the name is one of several things by which machines are told apart
    return platform.processor()


def device_of(result: Mapping[str, Any], environment: Callable[[], Mapping[str, Any]]) -> str:
    """On what a run trained: a GPU's name, or `cpu`. `result` and `environment`: the run's records.

    Of a run whose result does not say it, the first GPU of its machine, for that is what `device: auto` takes. Only
    then is the environment asked for: it may have to be fetched.
    """
    stated = (result.get("numerics") or {}).get("device")
    return str(stated or next(iter(environment().get("gpus") or ()), "cpu"))


@cache
def gpus() -> dict[str, Any]:
    """The driver's version and the names of all GPUs; None and none without a driver.

    By NVIDIA's own library: torch would begin a context on a GPU, which costs memory of it for as long as this process
    lives, also where other processes train.
    """
    try:
        nvml = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return {"driver": _driver_of_the_kernel(), "gpus": []}
    if nvml.nvmlInit_v2():
        return {"driver": _driver_of_the_kernel(), "gpus": []}
    try:
        text, count, names = ctypes.create_string_buffer(NAME_LENGTH), ctypes.c_uint(), []
        driver = text.value.decode() if not nvml.nvmlSystemGetDriverVersion(text, NAME_LENGTH) else None
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return {"driver": driver, "gpus": []}
        for number in range(min(count.value, GPUS)):
            device = ctypes.c_void_p()
            failed = nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device))
            failed = failed or nvml.nvmlDeviceGetName(device, text, NAME_LENGTH)
            names.append("unknown" if failed else text.value.decode(errors="replace"))
        return {"driver": driver, "gpus": names}
    finally:
        nvml.nvmlShutdown()


def _driver_of_the_kernel() -> str | None:
    try:
        matched = re.search(r"\b\d+\.\d+(?:\.\d+)?\b", DRIVER.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return matched[0] if matched else None
