"""Doctests are collected from every module, but a GPU's backends load only where Triton is, which is on Linux."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("triton") else ["*/cuda.py", "*/_triton.py"]
