"""`python -m producer.cli` is `edict`."""

from producer.cli import main

if __name__ == "__main__":
    main()
