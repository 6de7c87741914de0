"""What the ``train`` extra installs, asked for in one place."""

from __future__ import annotations

from importlib.util import find_spec

from stream.errors import UsageError


def require_training_extra(*modules: str) -> None:
    """Checks that modules are installed, without importing them.

    Args:
        modules: those the command will import; by default torch and transformers.

    Raises:
        UsageError: one is not.
    """
    for module in modules or ("torch", "transformers"):
        if find_spec(module) is None:
            raise UsageError(f"This command needs {module}; run `pip install 'reviewpulse[train]'`.")
