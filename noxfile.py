# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.2.9"]
# ///
"""Sessions of the workshop: ``nox -s tests``, ``nox --list``."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "imports", "tests"]

PROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> list[str]:
    """The packages of one of the project's dependency groups."""
    return list(nox.project.dependency_groups(PROJECT, name))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy, strictly."""
    session.install("-e", ".[train]", *group("types"))
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """Check the floor plan with import-linter, which reads the source only."""
    session.install(*group("imports"))
    session.run("lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; warnings are errors."""
    session.install("-e", ".[tests]")
    session.run("pytest", *session.posargs)


@nox.session(default=False)
def gpu(session: nox.Session) -> None:
    """Run the tests that need a GPU."""
    session.install("-e", ".[tests]")
    session.run("pytest", "-m", "gpu", *session.posargs)


@nox.session(default=False)
def slurm(session: nox.Session) -> None:
    """Run the batch examples on a SLURM of one node: root, slurm-wlm and munge are needed."""
    session.install("-e", ".[tests,cluster]")
    session.run("pytest", "-m", "slurm", "tests/test_slurm.py", *session.posargs)


@nox.session(default=False)
def unets(session: nox.Session) -> None:
    """Run the tests that need segmentation-models-pytorch, beside the registry's own torch."""
    session.install("-e", ".[tests,unets]")
    session.run("pytest", "-m", "unets", *session.posargs)


@nox.session(default=False)
def foreign(session: nox.Session) -> None:
    """Run the tests that need spandrel, and so a torch that torchvision was built for."""
    session.install("-e", ".[tests,spandrel]")
    session.run("pytest", "tests/test_foreign.py", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Time the library beside its bounds and its peers; tables go to docs/performance.md.

    ``nox -s bench -- --quick`` takes small arrays and prints the tables. MONAI is installed without
    its dependencies; torchgeo takes part where torchvision is (``nox -s bench -- --torchgeo``).
    """
    session.install("-e", ".[tests]", *group("bench"))
    session.install("--no-deps", "monai>=1.5")
    options = list(session.posargs)
    if "--torchgeo" in options:
        options.remove("--torchgeo")
        session.install("torchgeo>=0.8", "torchvision")
    found = f"{session.create_tmp()}/bench.json"
    session.run("pytest", "tests/benchmarks", f"--benchmark-json={found}", *options)
    document = [] if options else ["docs/performance.md"]
    session.run("python", "tests/benchmarks/report.py", found, *document)


@nox.session(default=False)
def kills(session: nox.Session) -> None:
    """Kill a job forty times at random moments; the store must be the undisturbed one's."""
    session.install("-e", ".[tests]")
    session.env["XDEMSR_KILLS"] = "40"
    session.run("pytest", "tests/test_store.py", "-k", "killed", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation; warnings are errors, and links that lead nowhere."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-n", "-W", "-T", "docs", "docs/_build/html", *session.posargs)
    session.run("python", "docs/check_links.py", "docs/_build/html")


@nox.session(default=False)
def recipe(session: nox.Session) -> None:
    """Have rattler-build read the recipe for conda, without building it."""
    session.install("-e", ".[tests]", *group("recipe"))
    session.run("pytest", "tests/test_docs.py", "-k", "recipe", *session.posargs)


@nox.session(default=False, venv_backend="uv")
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest versions declared."""
    session.install("--resolution=lowest-direct", "-e", ".[tests]")
    # Old releases meet newer ones of their own dependencies.
    session.run("pytest", "-W", "ignore::DeprecationWarning", *session.posargs)


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Run the main job as a newcomer would."""
    session.install(".")
    session.run("xdemsr", "demo", session.create_tmp() + "/demo")


if __name__ == "__main__":
    nox.main()
