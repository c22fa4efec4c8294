"""Draft of a package for Spack; url and sha256 are those of a release's source distribution."""

from spack_repo.builtin.build_systems.python import PythonPackage

from spack.package import *


class PyDistoptMpi(PythonPackage):
    """Data-parallel training for programs started by MPI, with the API of tf.keras.optimizers."""

    homepage = "https://distopt.example/distopt"
    url = "https://distopt.example/distopt/releases/download/v0.2.0/distopt_mpi-0.2.0.tar.gz"

    license("Apache-2.0")

    version("0.2.0", sha256="0" * 64)

    variant("torch", default=False, description="PyTorch, for distopt.torch")
    variant("jax", default=False, description="JAX and optax, for distopt.jax")

    depends_on("python@3.10:", type=("build", "run"))
    depends_on("py-setuptools@77:", type="build")
    depends_on("py-numpy@2.2:", type=("build", "run"))
    depends_on("py-autograd@1.9:", type=("build", "run"))
    depends_on("py-numba@0.61.2:", type=("build", "run"))
    depends_on("py-mpi4py@4:", type=("build", "run"))
    depends_on("py-torch@2.9:", when="+torch", type="run")
    depends_on("py-jax@0.5:", when="+jax", type="run")
    depends_on("py-optax@0.2.4:", when="+jax", type="run")
    depends_on("py-ml-dtypes@0.5:", when="+torch", type="run")

    import_modules = ["distopt", "distopt.optimizers", "distopt_launch"]
