"""The `forgerank` command, `python -m forgerank`, and with it `torchrun -m forgerank`."""

import signal
import sys

from forgerank.cli.stopping import CTRL_C, STOPPED_BY_CTRL_C, heed


def _interrupt() -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the console script; ends with the exit code."""
    try:
        heed(signal.SIGINT, _interrupt)
        from forgerank.cli.main import main as run

        run()
    except KeyboardInterrupt:  # before anything else could see to it
        sys.stderr.write(f"forgerank: {STOPPED_BY_CTRL_C}\n")
        sys.exit(CTRL_C)


if __name__ == "__main__":
    main()
