"""What distopt costs, beside its peers and beside what the machine allows.

``python -m benchmarks`` runs all, ``python -m benchmarks step`` one; see ``docs/explanation/benchmarks.md``.
"""
