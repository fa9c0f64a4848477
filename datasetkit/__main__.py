"""`python -m datasetkit` is `dsk`."""

from datasetkit.cli.main import main

if __name__ == "__main__":
    main()
