"""Which MPI, and whose mpiexec."""

import pytest
from distopt_launch.errors import JobStartError
from distopt_launch.mpi import Library, candidates, find_launcher, recognize
from distopt_launch.options import Options
from distopt_launch.prepare import make_plan
from distopt_launch.program import Program

HYDRA = "HYDRA build details:\n    Version:                                 4.2.3\n    CC: gcc\n"
OPEN_MPI_4 = "mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/\n"
OPEN_MPI_5 = "mpirun (Open MPI) 5.0.11\n"
INTEL = (
    "Intel(R) MPI Library for Linux* OS, Version 2021.11 Build 20231005 (id: 74c4a23)\nCopyright 2003-2023\n"
)


@pytest.mark.parametrize(
    ("text", "family", "version"),
    [
        (HYDRA, "mpich", "4.2.3"),
        (OPEN_MPI_4, "openmpi", "4.1.4"),
        (OPEN_MPI_5, "openmpi", "5.0.11"),
        (INTEL, "intel", "2021.11"),
        ("usage: mpiexec [options]", "", ""),
    ],
)
def test_launchers_are_recognized(text, family, version):
    launcher = recognize("/x/mpiexec", text)
    assert (launcher.family, launcher.version) == (family, version)


def fake(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
    file.chmod(0o755)
    return str(file)


def test_the_librarys_own_launcher_is_preferred(tmp_path):
    own = fake(tmp_path / "mpi/bin", "mpiexec", HYDRA)
    other = fake(tmp_path / "path", "mpiexec", HYDRA)
    library = Library("mpich", "MPICH 4.2.3", str(tmp_path / "mpi/lib/libmpi.so.12"), "4.1")
    environ = {"PATH": f"{tmp_path / 'path'}:/usr/bin:/bin"}
    found = candidates(library, environ)
    assert found.index(own) < found.index(other)
    assert find_launcher(library, environ).path == own


def test_another_mpis_launcher_is_refused_by_name(tmp_path):
    wrong = fake(tmp_path / "path", "mpiexec", OPEN_MPI_4)
    odd = fake(tmp_path / "path", "mpirun", "something\n")
    library = Library("mpich", "MPICH 4.2.3", "/nowhere/lib/libmpi.so.12", "4.1")
    with pytest.raises(JobStartError) as caught:
        find_launcher(library, {"PATH": str(tmp_path / "path")})
    text = str(caught.value)
    assert "MPICH 4.2.3" in text
    assert f"{wrong}: openmpi 4.1.4" in text
    assert f"{odd}: of unknown kind" in text


@pytest.mark.parametrize(
    ("file", "prefix"),
    [
        ("opt/mpi/lib/libmpi.so.12", "opt/mpi"),
        ("opt/mpi/lib64/release/libmpi.so.12", "opt/mpi"),
        ("usr/lib/x86_64-linux-gnu/libmpich.so.12", "usr"),
        ("usr/lib64/mpich/lib/libmpi.so.12", "usr/lib64/mpich"),
        ("opt/odd/libmpi.so.12", "opt/odd"),
    ],
)
def test_the_search_stops_where_the_library_is_installed(tmp_path, file, prefix):
    """What is above, anybody may have put there."""
    for folder in (tmp_path / file).parents:
        if folder.is_relative_to(tmp_path):
            fake(folder / "bin", "mpiexec", HYDRA)
    found = candidates(Library("mpich", "MPICH", str(tmp_path / file), "4.1"), {"PATH": ""})
    assert found[-1] == str(tmp_path / prefix / "bin/mpiexec")


def test_the_working_directorys_launcher_is_not_taken(tmp_path, monkeypatch):
    fake(tmp_path / "here", "mpiexec", HYDRA)
    monkeypatch.chdir(tmp_path)
    assert candidates(Library("mpich", "MPICH", "", "4.1"), {"PATH": ".:here::./here"}) == []


def test_no_launcher_at_all(tmp_path):
    library = Library("openmpi", "Open MPI 5.0.1", "", "4.1")
    with pytest.raises(JobStartError, match="No mpiexec was found"):
        find_launcher(library, {"PATH": str(tmp_path)})


def test_the_working_directorys_srun_is_not_run(tmp_path, monkeypatch):
    fake(tmp_path, "srun", "")
    monkeypatch.chdir(tmp_path)
    library = Library("mpich", "MPICH 4", "", "4.1")
    monkeypatch.setattr("distopt_launch.prepare.find_library", lambda _: library)
    options = Options(nproc=1, launcher="srun")
    with pytest.raises(JobStartError, match="there is no srun on PATH"):
        make_plan(options, Program("a.py"), {"PATH": ".::bin"})
    assert make_plan(options, Program("a.py"), {"PATH": f".:{tmp_path}"}).launcher == str(tmp_path / "srun")
