"""The packages, the configurations among them; all else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["miad_jax", "miad_jax.*"]), "miad_jax.configs"],
    package_dir={"miad_jax.configs": "configs"},
)
