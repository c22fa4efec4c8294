"""What the MPI launcher runs: by path, since ``-m`` would put the working folder first on sys.path."""

import importlib

if __name__ == "__main__":
    importlib.import_module("distopt_launch.child").main()
