"""The libraries we compare with, where they are installed. A missing peer is a blank cell.

Every peer gets its inputs as its own arrays in host memory before the clock starts, and runs on as
many threads as ours. What the clock sees is the call and a result on the host that is the
caller's to keep.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lightning_core.bench.measure import Contender, brief

if TYPE_CHECKING:
    from lightning_core.bench.work import Work

__all__ = ["PEERS", "Peers", "blas", "undisturbed", "versions"]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Function = Callable[..., Any]
PEERS = ("numpy", "torch", "torch_compile", "jax", "onnxruntime", "openvino")
# They make OpenBLAS run another processor's kernels, and NumPy a weaker peer than it is.
DISTURBING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
OPSET = 20  # the first with Gelu


def undisturbed(environment: Mapping[str, str]) -> dict[str, str] | None:
    """The environment without what slows a peer down; None where there is nothing to take out."""
    if not any(name in environment for name in DISTURBING):
        return None
    return {name: value for name, value in environment.items() if name not in DISTURBING}


def blas() -> str:
    """The BLAS that NumPy runs and its threads, for the header."""
    if find_spec("threadpoolctl") is None:
        return "unknown (threadpoolctl is not installed)"
    pools: Any = importlib.import_module("threadpoolctl")
    found = [p for p in pools.threadpool_info() if p["user_api"] == "blas"]
    return ", ".join(
        f"{p['internal_api']} {p['version']} {p.get('architecture', '')}, "
        f"{p['num_threads']} threads"
        for p in found
    )


def versions() -> dict[str, str]:
    """Version of every peer that is installed."""
    found: dict[str, str] = {}
    for name in ("numpy", "torch", "jax", "onnxruntime", "openvino"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _module(name: str) -> Any | None:
    return importlib.import_module(name) if find_spec(name) is not None else None


class Peers:
    """The installed peers, imported once a run and set to `threads` threads.

    Args:
        threads: as many as ours runs.
        names: the peers to take, of `PEERS`.
    """

    def __init__(self, threads: int, names: Iterable[str] = PEERS) -> None:
        self.threads = threads
        wanted = set(names)
        self.numpy = "numpy" in wanted
        self._limit: Any = None
        if (pools := _module("threadpoolctl")) is not None:
            self._limit = pools.threadpool_limits(threads, user_api="blas")
        graphs = {"torch", "torch_compile", "onnxruntime", "openvino"}  # torch makes their models
        self.torch = _module("torch") if wanted & graphs else None
        if self.torch is not None:
            self.torch.set_num_threads(threads)
            self.torch.set_grad_enabled(False)
        self.jax = None
        if "jax" in wanted:
            os.environ.setdefault("PJRT_NPROC", str(threads))  # read when XLA's client starts
            self.jax = _module("jax")
        exports = self.torch is not None and find_spec("onnx") is not None
        self.onnxruntime = _module("onnxruntime") if exports and "onnxruntime" in wanted else None
        self.openvino = _module("openvino") if exports and "openvino" in wanted else None
        self._core: Any = self.openvino.Core() if self.openvino is not None else None
        self.eager = self.torch is not None and "torch" in wanted
        compiler = any(shutil.which(name) for name in ("g++", "clang++", "c++"))
        self.inductor = self.torch is not None and "torch_compile" in wanted and compiler

    def contenders(
        self, work: Work, arrays: tuple[Array, ...], shape: Shape
    ) -> tuple[dict[str, Contender], list[str]]:
        """A call for each peer that can run the row, and a note for each that failed to."""
        if work.peer_view is not None:
            arrays = tuple(map(work.peer_view, arrays))
            shape = work.peer_view(np.empty(shape)).shape
        compiled = work.compiled and not work.out
        makers: dict[str, Callable[[], Contender]] = {}
        if self.numpy and work.numpy is not None:
            makers["numpy"] = lambda: self._numpy(work, arrays, shape)
        if work.torch is not None and self.torch is not None:
            function = work.torch(self.torch)
            tensors = [self.torch.from_numpy(a) for a in arrays]
            if self.eager:
                makers["torch"] = lambda: self._torch(work, function, tensors, shape)
            if self.inductor and compiled:
                makers["torch_compile"] = lambda: self._inductor(function, tensors)
            if (self.onnxruntime or self.openvino) and compiled:
                makers |= self._from_onnx(function, tensors, arrays, work.weights)
        if self.jax is not None and work.jax is not None:
            makers["jax"] = lambda: self._jax(work, arrays)
        made: dict[str, Contender] = {}
        notes: list[str] = []
        for name, make in makers.items():
            try:
                made[name] = make()
            except Exception as error:  # a peer that cannot do this row is a blank cell
                notes.append(f"{name}: {brief(error)}")
        return {name: made[name] for name in PEERS if name in made}, notes

    def _numpy(self, work: Work, arrays: tuple[Array, ...], shape: Shape) -> Contender:
        function: Any = work.numpy
        if not work.out:
            return Contender(partial(function, *arrays))
        out = np.empty(shape, np.float32)
        return Contender(partial(function, *arrays, out=out), out)

    def _torch(self, work: Work, function: Function, tensors: list[Any], shape: Shape) -> Contender:
        if not work.out:
            return Contender(partial(function, *tensors))
        assert self.torch is not None
        out = self.torch.empty(shape)
        return Contender(partial(function, *tensors, out=out), out)

    def _inductor(self, function: Function, tensors: list[Any]) -> Contender:
        assert self.torch is not None
        self.torch._dynamo.reset()  # else the rows of one function run into its limit of shapes
        compiled = self.torch.compile(function, dynamic=False)
        compiled(*tensors)
        return Contender(partial(compiled, *tensors))

    def _jax(self, work: Work, arrays: tuple[Array, ...]) -> Contender:
        assert self.jax is not None and work.jax is not None
        compiled = self.jax.jit(work.jax(self.jax))
        cpu = self.jax.devices("cpu")[0]
        narrow = (a.astype(np.int32) if a.dtype == np.int64 else a for a in arrays)  # as jax would
        inputs = [self.jax.device_put(a, cpu) for a in narrow]
        return Contender(lambda: np.asarray(compiled(*inputs)))

    def _from_onnx(
        self, function: Function, tensors: list[Any], arrays: tuple[Array, ...], weights: int
    ) -> dict[str, Callable[[], Contender]]:
        """ONNX Runtime and OpenVINO on one exported model, its weights constants."""
        inputs = arrays[: len(arrays) - weights]
        model: list[bytes] = []

        def exported() -> bytes:
            if not model:
                model.append(self._export(function, tensors, weights))
            return model[0]

        makers: dict[str, Callable[[], Contender]] = {}
        if self.onnxruntime:
            makers["onnxruntime"] = lambda: self._onnxruntime(exported(), inputs)
        if self.openvino:
            makers["openvino"] = lambda: self._openvino(exported(), inputs)
        return makers

    def _export(self, function: Function, tensors: list[Any], weights: int) -> bytes:
        torch: Any = self.torch
        constants = tensors[len(tensors) - weights :]

        class Graph(torch.nn.Module):  # type: ignore[misc]
            def forward(self, *inputs: Any) -> Any:
                return function(*inputs, *constants)

        module = function if isinstance(function, torch.nn.Module) else Graph()
        inputs = tuple(tensors[: len(tensors) - weights])
        buffer = io.BytesIO()
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The tracing exporter: the other one needs a package more.
            torch.onnx.export(
                module.eval(),
                inputs,
                buffer,
                dynamo=False,
                opset_version=OPSET,
                input_names=[f"x{i}" for i in range(len(inputs))],
            )
        return buffer.getvalue()

    def _onnxruntime(self, model: bytes, inputs: tuple[Array, ...]) -> Contender:
        runtime: Any = self.onnxruntime
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feed = {f"x{i}": a for i, a in enumerate(inputs)}
        return Contender(lambda: session.run(None, feed)[0])

    def _openvino(self, model: bytes, inputs: tuple[Array, ...]) -> Contender:
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "ENABLE_HYPER_THREADING": True,  # else two virtual processors may count as one
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
        }
        openvino, core = self.openvino, self._core
        assert openvino is not None
        compiled = core.compile_model(core.read_model(model), "CPU", settings)
        request = compiled.create_infer_request()
        shape = tuple(compiled.output(0).shape)
        feed = list(inputs)

        def call() -> Array:
            # A fresh output, as every allocating call makes; letting OpenVINO copy it costs more.
            out = np.empty(shape, np.float32)
            request.set_output_tensor(0, openvino.Tensor(out, shared_memory=True))
            request.infer(feed, share_inputs=True, share_outputs=True)
            return out

        return Contender(call)
