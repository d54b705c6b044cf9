"""Lets CMake build what is not Python: the extension, the gRPC link and the daemon.

Everything else is in pyproject.toml. RTSWAP_BUILD_DIR names a build directory to reuse (default:
build); RTSWAP_CMAKE_ARGS adds options, such as -DRTSWAP_WITH_GRPC=OFF.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class BuildWithCMake(build_ext):
    """Configures, builds and installs into the package: in place, or into the wheel."""

    def run(self) -> None:
        build = ROOT / os.environ.get("RTSWAP_BUILD_DIR", "build")
        if not (build / "CMakeCache.txt").exists():
            options = shlex.split(os.environ.get("RTSWAP_CMAKE_ARGS", ""))
            self._cmake(
                "-S",
                str(ROOT),
                "-B",
                str(build),
                "-G",
                "Ninja",
                "-DRTSWAP_WITH_PYTHON=ON",
                "-DRTSWAP_WITH_TESTS=OFF",
                f"-DPython3_EXECUTABLE={sys.executable}",
                *options,
            )
        self._cmake("--build", str(build))
        in_place = self.inplace or getattr(self, "editable_mode", False)
        prefix = ROOT if in_place else Path(self.build_lib).resolve()
        strip = [] if in_place else ["--strip"]  # symbols are five sixths of a wheel
        self._cmake("--install", str(build), "--prefix", str(prefix), *strip)

    def _cmake(self, *arguments: str) -> None:
        try:
            subprocess.run(["cmake", *arguments], check=True)
        except FileNotFoundError:
            sys.exit("cmake is not installed; on Debian: apt-get install cmake ninja-build")


setup(
    # No sources: the name alone makes the wheel one of this platform and Python.
    ext_modules=[Extension("rtswap._core", sources=[])],
    cmdclass={"build_ext": BuildWithCMake},
)
