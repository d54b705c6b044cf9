"""``python -m rtswap``: the same as the command ``rtswap``."""

from rtswap.cli import app

app(prog_name="rtswap")
