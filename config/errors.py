"""The root of our errors, and those of configuration."""

from __future__ import annotations


class AppError(Exception):
    """Every error of ours; `str()` is a sentence that an operator can act on."""


class ConfigError(AppError):
    """A setting that cannot be used; raised when settings are loaded, nowhere else."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
