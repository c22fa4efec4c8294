-- Environment module (Lmod) for a virtual environment that holds distopt:
--   python -m venv /apps/distopt/0.2.0 && /apps/distopt/0.2.0/bin/pip install '/path/to/clone[mpi]'
-- with the module of the site's MPI loaded, the one that is named here.
help([[distopt: data-parallel training for Python programs that MPI starts. distoptrun --check shows whether all is well.]])
whatis("Name: distopt")
whatis("Version: 0.2.0")
whatis("URL: https://distopt.example/distopt")

local root = "/apps/distopt/0.2.0"

depends_on("mpich")
conflict("distopt")

prepend_path("PATH", pathJoin(root, "bin"))
setenv("DISTOPT_ENV", root) -- the job scripts of launch/recipes read it
-- Compiled kernels: not beside the sources, where users may not write, but in a folder that is each user's own.
setenv("NUMBA_CACHE_DIR", pathJoin(os.getenv("HOME"), ".cache", "distopt-numba"))
