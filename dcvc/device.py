"""The one place that turns `--device auto` into a device."""

from dcvc.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> str:
    """"auto": CUDA, then MPS, then the CPU; another name as it is. Raises InputError where there is no such device."""
    import torch  # late: the command line starts without it

    seen = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, there in seen.items() if there)
    if not seen.get(name.partition(":")[0], False):
        raise InputError(f"--device: found {name}, but this torch sees no such device; use --device cpu")
    return name
