"""RaSa (IJCAI 2023): relation- and sensitivity-aware learning for text-based person search.

One run from a typed config.
"""

__version__ = "0.2.0"
