"""`python -m rain_decoding.cli` is `rain`."""

from rain_decoding.cli import main

if __name__ == "__main__":
    main()
