"""`python -m forgerank`, and with it `torchrun -m forgerank`: the same as the `forgerank` command."""

from forgerank.cli.main import main

if __name__ == "__main__":
    main()
