"""Fused operators: each folder holds one operator, its plain torch reference and its fast backends.

The import name is ``temporal.kernels``. The plain name ``kernels`` belongs to a Hugging Face library.
"""

if __name__ == "kernels":
    # Imported from the checkout's root, where this folder hides the Hugging Face package of the same name: give way to it.
    # Raising here instead would break every library that looks for that package, transformers among them.
    import importlib.machinery
    import importlib.util
    import os
    import sys

    _root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    _elsewhere = [p for p in sys.path if os.path.realpath(p or os.getcwd()) != _root]
    _spec = importlib.machinery.PathFinder.find_spec("kernels", _elsewhere)
    if _spec is None or _spec.loader is None:
        raise ModuleNotFoundError(f"No module named {__name__!r} (this project's is temporal.kernels)", name=__name__)
    sys.modules["kernels"] = _module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_module)
else:
    from ._dispatch import use
    from ._memory import empty_cache

    __all__ = ["empty_cache", "use"]
