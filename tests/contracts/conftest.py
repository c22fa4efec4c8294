import sys
from pathlib import Path

# The recordings of the real optimizers are replayed here on replicas.
sys.path.append(str(Path(__file__).parent.parent / "optimizers"))
