"""`python -m pipelines` is the command `mpm`, also where only the code was sent and nothing installed."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
