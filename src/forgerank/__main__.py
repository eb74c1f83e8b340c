"""`python -m forgerank`, and with it `torchrun -m forgerank`: the same as the `forgerank` command."""

from forgerank.app.cli import main

if __name__ == "__main__":
    main()
