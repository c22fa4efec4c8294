import sys
from pathlib import Path

# The recordings of the real optimizers are replayed here on replicas.
sys.path.append(str(Path(__file__).parent.parent / "optimizers"))
# A training that is saved, to be gone on with.
sys.path.append(str(Path(__file__).parent.parent / "checkpoint"))
