"""Whether torch works here and how fast: its libraries, its threads, a quick matrix multiplication."""

import os
import shutil
from collections.abc import Iterator

from congling.core import machine
from congling.core.installation import Check

SLOW = 4e9
"""Operations a second and core below which something is wrong: processors of 2010 reach it."""
_BUSY = 0.75
"""Load of a core beside which speeds are not those of the machine."""


def checks() -> Iterator[Check]:
    """All of them; where torch cannot be loaded, that alone."""
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        remedy = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cpu"
        yield Check("torch", "error", f"cannot be loaded ({type(error).__name__}: {error})", remedy)
        return
    yield _libraries()
    yield _threads()
    yield _devices()
    yield _compiler()
    yield _speed()


def _libraries() -> Check:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    mkl, onednn = torch.backends.mkl.is_available(), torch.backends.mkldnn.is_available()
    blas = "MKL" if mkl else "OpenBLAS" if "openblas" in torch.__config__.show().lower() else "another BLAS"
    told = f"{torch.__version__}, {blas}{', oneDNN' if onednn else ''}, processor as {capability}"
    values = {"version": torch.__version__, "blas": blas, "onednn": onednn, "capability": capability}
    if capability in ("DEFAULT", "NO AVX"):
        remedy = "train on a processor with AVX2, or on a GPU"
        return Check("torch", "warning", f"{told}: none of the fast instructions is used", remedy, values)
    return Check("torch", "good", told, None, values)


def _threads() -> Check:
    import psutil
    import torch

    threads, cores = torch.get_num_threads(), machine.cores()
    load = psutil.getloadavg()[0]
    told = f"{threads} of {cores} cores, load {load:.1f}"
    values = {"threads": threads, "cores": cores, "load": load}
    if threads > cores:
        return Check("threads", "warning", told, f"export OMP_NUM_THREADS={cores}", values)
    if threads < cores and os.environ.get("OMP_NUM_THREADS"):
        return Check("threads", "note", f"{told}: OMP_NUM_THREADS says so", "unset OMP_NUM_THREADS", values)
    if load > _BUSY * cores:
        remedy = "stop other programs: training beside them is slow"
        return Check("threads", "warning", f"{told}: others are computing here", remedy, values)
    return Check("threads", "good", told, None, values)


def _devices() -> Check:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check(
            "accelerator", "good", ", ".join(names), None, {"names": names, "cuda": torch.version.cuda}
        )
    if shutil.which("nvidia-smi"):
        what = "there is a GPU, but this torch cannot use it"
        return Check(
            "accelerator", "warning", what, "install a torch for CUDA: https://pytorch.org", {"names": []}
        )
    return Check("accelerator", "good", "none: training runs on the processor", None, {"names": []})


def _compiler() -> Check:
    names = ("cl",) if os.name == "nt" else ("c++", "g++", "clang++")
    place = os.environ.get("CXX") or next((path for name in names if (path := shutil.which(name))), None)
    if place is None:
        what = "no C++ compiler: train.torch_compile=on is not possible on this processor"
        remedy = "install Visual C++ build tools" if os.name == "nt" else "install g++ (or Xcode's tools)"
        return Check("compiler", "note", what, remedy)
    return Check("compiler", "good", str(place))


def _speed() -> Check:
    from congling.train.calibrate import probe

    try:
        found = probe()
    except RuntimeError as error:
        return Check("speed", "error", f"matrices cannot be multiplied: {error}", "reinstall torch")
    values = {"flops": found.matmul_peak, "precision": found.precision}
    told = f"{found.matmul_peak / 1e9:,.0f} GFLOP/s in matrix multiplications, {found.precision}"
    if found.accelerator is None and found.matmul_peak < SLOW * machine.cores():
        return Check("speed", "warning", told, "stop other programs; see the line about threads", values)
    return Check("speed", "good", told, None, values)
