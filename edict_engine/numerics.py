"""What the last bits of a network's output depend on, and how to hold it still."""

import torch


def make_deterministic() -> None:
    """Make CUDA convolutions repeatable: no search for algorithms, and only deterministic ones.

    Changes process-wide PyTorch settings, so it is called by ``load_model`` for CUDA devices only,
    never on import. CPU kernels are repeatable as they are, at a fixed thread count.
    """
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device computes faster in it, else float32.

    A CPU does so with matrix units (AMX). With AVX-512 alone a product in bfloat16 takes twice as
    long as in float32, and without it, where bfloat16 is emulated, 20 times as long (measured).
    """
    if device.type == "cpu":
        fast = bool(torch.cpu.get_capabilities().get("amx_bf16"))
    else:
        fast = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


def memory_format(device: torch.device) -> torch.memory_format:
    """Return the faster layout: channels last on tensor cores, contiguous on CPUs (measured)."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def fingerprint(
    device: torch.device, dtype: torch.dtype, rows: int, shape: tuple[int, int, int]
) -> str:
    """Describe, in one readable line, all that bits are known to depend on.

    Equal fingerprints make bit-equal results likely, different ones unlikely; only a comparison
    proves them. Example: ``cpu:AVX512;torch=2.13.0;bfloat16;contiguous_format;rows=8;4x16x16;
    threads=1``.
    """
    return ";".join(
        [
            _hardware(device),
            f"torch={torch.__version__}",
            str(dtype).removeprefix("torch."),
            str(memory_format(device)).removeprefix("torch."),
            f"rows={rows}",
            "x".join(map(str, shape)),
            *([f"threads={torch.get_num_threads()}"] if device.type == "cpu" else []),
        ]
    )


def extended(fingerprint: str, **options: object) -> str:
    """Add the ``options`` that are not None to a fingerprint; without any it stays as it was."""
    extra = (f"{name}={value}" for name, value in options.items() if value is not None)
    return ";".join([fingerprint, *extra])


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        # cuBLAS promises the same bits on cards of one architecture with as many multiprocessors:
        # an A10 and an RTX 3090 are both sm_86.
        card = torch.cuda.get_device_properties(device)
        return f"cuda:sm_{card.major}{card.minor}x{card.multi_processor_count}"
    if device.type == "cpu":
        return f"cpu:{torch.backends.cpu.get_cpu_capability()}"
    return device.type
