"""Devices that a plan may be made for: what their makers state, and what is assumed of it.

Peaks are of dense matrix products (half of what a datasheet states with sparsity), memory as it is sold.
"""

from dataclasses import dataclass

from experiments.wording import did_you_mean
from rasa.errors import SpecError

# The share of a stated peak that a step of m-RTD reached on one H200 at batch 52: plain float32, fast TF32, bf16 with
# the image encoder compiled (docs/performance.md). Assumed of all kinds: a slower one may reach more, for there the
# starts of many small kernels hide behind their work.
UTILISATION = {"float32": 0.54, "tf32": 0.18, "bf16": 0.18}
MEASURED_ON = "one H200 (docs/performance.md)"
LINK_UTILISATION = 0.7  # of a link's stated speed, assumed
LEAST_STEP = 0.05  # seconds: some 5,000 kernels are started in a step of m-RTD, however small they are; assumed
RESERVED_GIB = 1.5  # CUDA's context and libraries, assumed
FRAGMENTED = 0.08  # share of what is alive that the allocator holds beside it, assumed


@dataclass(frozen=True)
class Device:
    """One kind of GPU: memory in GB, TFLOP/s by precision, GB/s to another one in one direction, and the source."""

    name: str
    memory: float
    tflops: dict[str, float]
    link: float
    source: str
    marks: tuple[str, ...]  # words by which a driver's name of it is known

    def precision(self, wanted: str) -> str:
        """What a run of that precision computes in here: what the device does not have is float32."""
        return wanted if wanted in self.tflops else "float32"


AMPERE = "NVIDIA A100 Tensor Core GPU datasheet (June 2021), SXM"
HOPPER = "NVIDIA H100 Tensor Core GPU datasheet (2023), SXM"
A100 = {"float32": 19.5, "tf32": 156.0, "bf16": 312.0}
H100 = {"float32": 67.0, "tf32": 494.0, "bf16": 989.0}
PCIE4 = 32.0  # 16 lanes of PCI Express 4.0

DEVICES = {
    "v100": Device(
        "V100 32 GB",
        32,
        {"float32": 15.7},
        150,
        "NVIDIA V100 datasheet (January 2020), SXM2; no bf16, no TF32",
        ("V100",),
    ),
    "a100-40": Device("A100 40 GB", 40, A100, 300, AMPERE, ("A100", "40")),
    "a100-80": Device("A100 80 GB", 80, A100, 300, AMPERE, ("A100", "80")),
    "h100": Device("H100", 80, H100, 450, HOPPER, ("H100",)),
    "h200": Device("H200", 141, H100, 450, "NVIDIA H200 datasheet (2024), SXM", ("H200",)),
    "3090": Device(
        "RTX 3090",
        24,
        {"float32": 35.6, "tf32": 35.6, "bf16": 71.0},
        PCIE4,
        "NVIDIA Ampere GA102 GPU Architecture whitepaper (2021), Appendix A; the paper's device (A.2)",
        ("RTX 3090",),
    ),
    "4090": Device(
        "RTX 4090",
        24,
        {"float32": 82.6, "tf32": 82.6, "bf16": 165.2},
        PCIE4,
        "NVIDIA Ada GPU Architecture whitepaper (2022), Appendix A; no NVLink",
        ("RTX 4090",),
    ),
}


def device_of(kind: str) -> Device:
    """Raises SpecError with the kinds that are known."""
    if kind not in DEVICES:
        raise SpecError(f"--device-kind: no kind {kind!r}{did_you_mean(kind, list(DEVICES))}")
    return DEVICES[kind]


def kind_of(name: str) -> str | None:
    """The kind of a device by its driver's name, e.g. `NVIDIA H100 80GB HBM3`; None if it is none of these."""
    for kind, device in DEVICES.items():
        if all(mark in name for mark in device.marks):
            return kind
    return None
