"""Engines that run an ONNX file on named arrays, and a check that their provider computes correctly.

ONNX Runtime falls back to the CPU without an error when a GPU library is missing, so `Engine.provider` is the provider
that was obtained, not the one asked for. OpenVINO reads the same files through its own package (the extra `openvino`);
the products of an int8 graph it quantises by itself.
"""

import ctypes
import logging
import re
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ga2clip.choices import PROVIDERS
from ga2clip.errors import MissingExtraError, UserError, first_line, unknown_name
from ga2clip.runtime.arguments import thread_count

_log = logging.getLogger(__name__)

_CPU = "CPUExecutionProvider"
_ORT_PROVIDERS = {
    "cpu": [_CPU],
    "cuda": ["CUDAExecutionProvider", _CPU],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", _CPU],
}
ON_CUDA = {"use_tf32": "0"}
"""By default ONNX Runtime rounds the factors of float32 products to 10 bits on GPUs (TF32): probabilities of `tiny`
moved by up to 4e-4. For speed there is fp16."""
_ERRORS_ONLY = 3
_SHARING_A_SCALE = 256
"""Consecutive values of a row that OpenVINO quantises together; products of shorter rows it computes in float. With 64
it is a tenth slower, with 768 no faster."""


class Engine(Protocol):
    """A loaded graph. `provider` is the one that was obtained; `run` is safe to call from several threads."""

    provider: str

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Named inputs → named outputs."""
        ...


def open_engine(path: Path, provider: str, *, threads: int = 0, wait: bool = True) -> Engine:
    """Load a graph. provider: one of `PROVIDERS` or `cuda:N`; `auto` uses CUDA if a driver is installed, else the CPU.
    threads: 0 lets the engine use all cores. wait: False returns while ONNX Runtime still loads the graph for the CPU;
    the first run waits for it, and raises what loading raised.

    Raises UserError for an unknown provider, a graph that can't be loaded; MissingExtraError for a missing
    package.
    """
    if not isinstance(provider, str):
        raise UserError(f"provider must be a string, got {provider!r:.40}", f"one of {', '.join(PROVIDERS)}")
    if provider not in PROVIDERS and not re.fullmatch(r"cuda:\d+", provider):
        raise unknown_name("provider", provider, PROVIDERS)
    threads = thread_count(threads)
    if provider == "openvino":
        return _OpenVino(path, threads)
    if provider == "auto":
        provider = "cuda" if has_cuda() else "cpu"
    return _OnnxRuntime(path, provider, threads, wait or provider != "cpu")


def check_provider(
    engine: Engine, name: str, inputs: np.ndarray, output: str, truth: np.ndarray, limit: float
) -> None:
    """Compare a provider's features with torch's: other providers than the CPU may use another precision, or be wrong.

    name, inputs: one input of the graph. output, truth: the output's name and torch's features (…, D). limit: the
    smallest cosine that is accepted. Raises UserError when the cosine is smaller, or the shape differs.
    """
    features = engine.run({name: inputs})[output].astype(np.float64)
    if features.shape != truth.shape:
        raise UserError(
            f"the provider '{engine.provider}' computes {output} of shape {features.shape}, not {truth.shape}",
            "take --provider cpu",
        )
    lengths = np.linalg.norm(features, axis=-1) * np.linalg.norm(truth, axis=-1)
    cosine = float(((features * truth).sum(axis=-1) / lengths).min())
    _log.info("provider %s: cosine to torch %.6f", engine.provider, cosine)
    if not cosine >= limit:
        raise UserError(
            f"the provider '{engine.provider}' computes {output} wrongly: cosine to torch {cosine:.4f} < {limit}",
            "take --provider cpu",
        )


def has_cuda() -> bool:
    """Whether this ONNX Runtime was built for CUDA and NVIDIA's driver library loads."""
    from ga2clip.runtime.ort import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


class _OnnxRuntime:
    def __init__(self, path: Path, provider: str, threads: int, wait: bool) -> None:
        import ga2clip.runtime.ort  # noqa: F401 (before a thread that would share the interpreter for it)

        load = partial(_load, path, provider, threads)
        if not wait:
            pool = ThreadPoolExecutor(1, thread_name_prefix="engine")
            self._loading = pool.submit(load)
            pool.shutdown(wait=False)
            self.provider = provider
            return
        with redirect_stdout(sys.stderr):  # it prints missing libraries to stdout
            session = load()
        self._loading = Future()
        self._loading.set_result(session)
        obtained = session.get_providers()[0]
        self.provider = next(name for name, chain in _ORT_PROVIDERS.items() if chain[0] == obtained)
        if self.provider == provider.partition(":")[0]:
            self.provider = provider

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        session = self._loading.result()
        names = [output.name for output in session.get_outputs()]
        try:
            values = session.run(names, dict(inputs))
        except Exception as error:
            raise _run_error(error) from None
        return dict(zip(names, values, strict=True))


def _load(path: Path, provider: str, threads: int) -> Any:
    """A session with the provider or, if it can't be had, the next one of its chain."""
    from ga2clip.runtime.ort import onnxruntime

    if provider != "cpu" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA libraries that came as Python packages
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    # Threads that wait actively take the cores from decoding and from other processes, and make no run faster.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    kind, _, number = provider.partition(":")
    device = {"device_id": number} if number else {}
    own = {_CPU: {}, "CUDAExecutionProvider": device | ON_CUDA, "TensorrtExecutionProvider": device}
    chain = [p for p in _ORT_PROVIDERS[kind] if p in onnxruntime.get_available_providers()]
    return _open_session(path, options, [(name, own[name]) for name in chain])


def _open_session(path: Path, options: Any, chain: list[tuple[str, dict[str, str]]]) -> Any:
    """A session with the first provider of the chain that loads. Raises UserError when the last one doesn't."""
    from ga2clip.runtime.ort import onnxruntime

    try:
        return onnxruntime.InferenceSession(
            str(path),
            options,
            providers=chain,
            enable_fallback=0,  # its own fallback prints to stdout
        )
    except Exception as error:  # ONNX Runtime raises its own classes, which share no base
        if len(chain) > 1:
            _log.debug("%s: %s", chain[0][0], first_line(error)[:300])
            return _open_session(path, options, chain[1:])
        hint = f"the file may be damaged, or too new for onnxruntime {onnxruntime.__version__}"
        raise UserError(f"ONNX Runtime cannot load {path}: {first_line(error)[:300]}", hint) from None


class _OpenVino:
    provider = "openvino"

    def __init__(self, path: Path, threads: int) -> None:
        try:
            import openvino
        except ImportError:
            raise MissingExtraError("the provider 'openvino'", "openvino") from None
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _SHARING_A_SCALE,
        }
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            core = openvino.Core()
            core.add_extension(_products_left_to_openvino())
            self._model = core.compile_model(str(path), "CPU", config)
        except Exception as error:
            raise UserError(
                f"OpenVINO cannot load {path}: {first_line(error)[:300]}", "take --provider cpu"
            ) from None
        self._requests = threading.local()

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if not hasattr(self._requests, "request"):  # one per thread: a request holds the buffers of a run
            self._requests.request = self._model.create_infer_request()
        try:
            results = self._requests.request.infer(dict(inputs))
        except Exception as error:
            raise _run_error(error) from None
        return {output.any_name: np.array(results[output]) for output in self._model.outputs}


def _products_left_to_openvino() -> list[Any]:
    """Extensions that read the int8 products of a graph as products of float rows with 8-bit weights.

    OpenVINO computes `DynamicQuantizeLinear` and `MatMulInteger` step by step, slower than in float. A product with
    8-bit weights it quantises by itself, with scales of each row's own, where the CPU has instructions for it, and
    computes in float elsewhere.
    """
    from openvino import opset13 as ops
    from openvino.frontend.onnx import ConversionExtension

    def not_quantised(node: Any) -> list[Any]:
        """DynamicQuantizeLinear: the values themselves, their scale 1 and their zero point 0."""
        values = ops.convert(node.get_input(0), "f32")  # a node of its own: the input would lose its name
        return [part.output(0) for part in (values, ops.constant(np.float32(1)), ops.constant(np.float32(0)))]

    def product(node: Any) -> list[Any]:
        """MatMulInteger: (x − its zero point) · (weights − theirs)."""
        x, weights, x_zero, weights_zero = (ops.convert(node.get_input(i), "f32") for i in range(4))
        # OpenVINO tells 8-bit weights by their scale; that of the graph stands behind the product.
        scaled = ops.multiply(ops.subtract(weights, weights_zero), ops.constant(np.float32(1)))
        return [ops.matmul(ops.subtract(x, x_zero), scaled, False, False).output(0)]

    return [
        ConversionExtension("DynamicQuantizeLinear", not_quantised),
        ConversionExtension("MatMulInteger", product),
    ]


def _run_error(error: Exception) -> UserError:
    return UserError(f"the encoder failed: {first_line(error)[:300]}", "a smaller batch needs less memory")
