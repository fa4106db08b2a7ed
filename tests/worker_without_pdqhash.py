"""A scripted worker where the library pdqhash is not installed, as on a machine without a C++ compiler."""

import runpy
import sys

if __name__ == "__main__":
    sys.modules["pdqhash"] = None  # type: ignore[assignment]  # so that an import of it fails
    runpy.run_module("tests.scripted_worker", run_name="__main__")
