"""The dtype of autocast (None: float32) for a precision setting, a device and a backbone's width."""

from contextlib import AbstractContextManager, nullcontext

import torch

from ga2clip.errors import UserError
from ga2clip.settings import Precision

# From this width on, bf16 makes a step at least 1.6 times as fast, for any number of patches per frame (measured:
# docs/benchmarks.md, "From which width on"). The 128 channels of `tiny` would gain too; they stay with float32, so that
# the built-in backbone gives the same numbers on CPUs with and without bf16.
_WIDE_ENOUGH = 256
_DTYPES: dict[Precision, torch.dtype | None] = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def autocast_dtype(precision: Precision, device: torch.device, width: int) -> torch.dtype | None:
    """The autocast dtype for a precision setting; None: no autocast. width: channels of the vision tower.

    `auto` is bf16 if the device supports it natively and the tower is wide enough to become faster, fp16 (with loss
    scaling) on older GPUs, else float32.
    Raises UserError for fp16 on a CPU, which has no fast path for it.
    """
    if precision == "fp16" and device.type == "cpu":
        raise UserError("precision fp16 needs a GPU", "take --set training.precision=bf16, or auto")
    if precision != "auto":
        return _DTYPES[precision]
    if width < _WIDE_ENOUGH:
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if cpu_has_bf16() else None


def precision_name(dtype: torch.dtype | None) -> Precision:
    """What the setting calls a dtype of autocast."""
    return next(name for name, known in _DTYPES.items() if known == dtype)


def cpu_has_bf16() -> bool:
    """True when the CPU multiplies bf16 natively (AVX-512 BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """The context in which forward passes run."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
