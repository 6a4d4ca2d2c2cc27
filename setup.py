"""Puts what a project is made of into the wheel, as stages/project/: parameters, tables of prompts, the workflow."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PARTS = ("params", "data", "workflow", "profiles")
LEFT_OUT = {"data": "zoo"}  # fetched, not shipped


class WithProject(build_py):
    """Builds the packages and copies the parts of a project beside the code that reads them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # the clone itself is the project
            return
        project = Path(self.build_lib) / "stages" / "project"
        shutil.rmtree(project, ignore_errors=True)
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(
                    ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__", LEFT_OUT.get(part, ""))
                )
        if (ROOT / "Snakefile").is_file():
            shutil.copyfile(ROOT / "Snakefile", project / "Snakefile")


setup(cmdclass={"build_py": WithProject})
