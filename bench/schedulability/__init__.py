"""How many task sets can be promised their deadlines, by discipline, as memory and load get tight.

    python -m bench.schedulability [--sets N] [--seed S] [--jobs J]

Sets are drawn from a table of models (``bench/profiles``); every discipline is asked about the same
ones. What each discipline is and is not charged with: ``disciplines.py``.
"""
