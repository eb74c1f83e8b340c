"""The `forgerank` command, `python -m forgerank`, and with it `torchrun -m forgerank`."""

from forgerank.cli.stopping import end_at_signals


def main() -> None:
    """Entry point of the console script; ends with the exit code."""
    end_at_signals()
    from forgerank.cli.main import main as run  # takes a moment

    run()


if __name__ == "__main__":
    main()
