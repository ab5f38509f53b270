"""What ``temporal bench`` compares: one module a group, found by its file name."""

__all__: list[str] = []
