"""`python -m perdure` is `perdure`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs it from source with an older Python gets a sentence
    found = ".".join(str(part) for part in sys.version_info[:3])
    sys.exit(f"perdure needs Python 3.11 or later; this is Python {found} ({sys.executable}).")

from perdure.cli.main import main

if __name__ == "__main__":
    main()
