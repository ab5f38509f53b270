"""Everything stands in pyproject.toml. This file only refuses to build a checkout whose symbolic links are missing.

Git writes a link as a small text file where it may not make links (core.symlinks=false, the default on Windows); the
wheel would then lack temporal.kernels and temporal.datasets, and nothing would say so before the first import.
"""

import pathlib

import setuptools

for name in ("kernels", "datasets"):
    if not pathlib.Path("temporal", name, "__init__.py").is_file():
        raise SystemExit(
            f"temporal/{name} is not the symbolic link to ../{name} that it should be: this checkout was made without "
            "symbolic links, and a package built from it would lack a part. Let git make them (on Windows: switch on "
            "the developer mode first), then install again:\n"
            "    git config core.symlinks true\n"
            "    git checkout -- temporal/kernels temporal/datasets"
        )

setuptools.setup()
