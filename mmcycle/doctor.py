"""Is this machine fit, and is this config ready? Findings, each good or bad, with what to do."""
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

REQUIRED = ("torch", "torchvision", "torchaudio", "einops", "numpy", "librosa", "soundfile", "PIL", "open3d", "pydantic",
            "yaml", "typer", "safetensors", "lightning_fabric", "jinja2")
PACKAGE = {"PIL": "pillow", "yaml": "pyyaml", "lightning_fabric": "lightning-fabric"}      # if not the module's name
MALICIOUS = ("2.6.2", "2.6.3")      # releases of lightning-fabric


class Finding(NamedTuple):
    """One thing looked at."""

    good: bool
    what: str
    found: str


def examine(config: str | None = None, overrides: Sequence[str] = ()) -> list[Finding]:
    """Versions, device, memory; with a config also its domains and the cost of a step."""
    findings = [_python(), *map(_library, REQUIRED), *_machine()]
    return findings + list(_config(config, overrides)) if config else findings


def _python() -> Finding:
    return Finding(sys.version_info >= (3, 11), "python", sys.version.split()[0])


def _library(module: str) -> Finding:
    package = PACKAGE.get(module, module)
    try:
        import_module(module)
        number = version(package)
    except PackageNotFoundError:
        number = "present"
    except (ImportError, OSError, RuntimeError) as error:       # RuntimeError: a torchaudio built for another torch
        hint = " (Debian: apt-get install libusb-1.0-0 libgl1 libgomp1)" if module == "open3d" else ""
        return Finding(False, package, f"does not import: {str(error).splitlines()[0]}{hint}")
    if package == "lightning-fabric" and number in MALICIOUS:
        told = f"{number} is a malicious release (GHSA-w37p-236h-pfx3); install another at once"
        return Finding(False, package, told)
    return Finding(True, package, number)


def _machine() -> Iterator[Finding]:
    import torch

    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: use run.precision=32-true"
        yield Finding(True, f"cuda:{index}", f"{card.name}, {card.total_memory / 2**30:.0f} GiB, {bf16}")
    if not torch.cuda.is_available():
        yield Finding(True, "cuda", "none; training runs on the CPU")
    kind = torch.backends.cpu.get_cpu_capability()
    yield Finding(True, "cpu", f"{os.cpu_count()} cores, {kind}, torch uses {torch.get_num_threads()} threads")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield Finding(memory > 4, "memory", f"{memory:.0f} GiB")
    free = shutil.disk_usage(".").free / 2**30
    yield Finding(free > 2, "disk", f"{free:.0f} GiB free here" + ("" if free > 2 else "; checkpoints need 1 to 2 GiB"))


def _config(config: str, overrides: Sequence[str]) -> Iterator[Finding]:
    from mmcycle.config import load_config
    from mmcycle.errors import UserError
    from mmcycle.train.preview import preview

    try:
        for line in preview(load_config(config, overrides)):
            yield Finding(True, "config", line)
    except UserError as error:
        yield Finding(False, "config", str(error))
