"""Opens whichever TFLite runtime is installed, for the tools that run a graph as it is: to calibrate, compare and look inside."""

from __future__ import annotations

from typing import Any, Literal

from edgeannot.base.errors import ModelError

__all__ = ["Runtime", "open_interpreter"]

Runtime = Literal["litert", "tflite-runtime"]


def open_interpreter(model: bytes, runtime: Runtime | None = None, *, every_tensor: bool = False, threads: int = 2) -> Any:
    """Return an interpreter of LiteRT, or else of tflite-runtime, with its tensors allocated.

    every_tensor: intermediate values can be read too; for that no delegate may take the graph over.
    """
    module = _runtime(runtime)
    options: dict[str, Any] = {}
    if every_tensor:
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options = {"experimental_op_resolver_type": resolver, "experimental_preserve_all_tensors": True}
    try:
        interpreter = module.Interpreter(model_content=model, num_threads=threads, **options)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as exc:
        raise ModelError(f"the runtime cannot load the model: {exc}") from exc
    return interpreter


def _runtime(runtime: Runtime | None) -> Any:
    """Return the interpreter module of a runtime; None takes what is installed, LiteRT first."""
    if runtime in (None, "litert"):
        try:
            from ai_edge_litert import interpreter as litert  # noqa: PLC0415 - which runtime is there shows only now
        except ImportError as exc:
            if runtime == "litert":
                raise ModelError("LiteRT is not installed; install the package ai-edge-litert") from exc
        else:
            return litert
    try:
        from tflite_runtime import interpreter as tflite  # noqa: PLC0415
    except ImportError as exc:
        raise ModelError("no TFLite runtime is installed; install the package ai-edge-litert or tflite-runtime") from exc
    return tflite
