"""Carries configs/ into the wheel as slim/configs; everything else is said in pyproject.toml.

The recipes stand at the top of the checkout, where a reader looks for them, and setuptools can only map
package folders: so the build copies them. An editable install copies nothing, ``slim.resources`` then
reads the folder beside the package.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONFIGS = Path("configs")
ENDINGS = {".yml", ".yaml", ".md", ".txt", ".json"}


class BuildWithConfigs(build_py):
    """build_py that also places configs/** under slim/configs."""

    def run(self) -> None:
        super().run()
        if getattr(self, "editable_mode", False):
            return
        for source, target in self._config_files():
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: int = 1) -> list[str]:
        outputs: list[str] = super().get_outputs(include_bytecode)
        if getattr(self, "editable_mode", False):
            return outputs
        return outputs + [str(target) for _, target in self._config_files()]

    def _config_files(self) -> list[tuple[Path, Path]]:
        found = sorted(path for path in CONFIGS.rglob("*") if path.is_file() and path.suffix in ENDINGS)
        return [(path, Path(self.build_lib, "slim", path)) for path in found]


setup(cmdclass={"build_py": BuildWithConfigs})
