"""`python -m mmcycle`: the command line, also where the package is not installed."""
from mmcycle.cli import main

if __name__ == "__main__":
    main()
