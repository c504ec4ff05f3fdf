"""`python -m spineloop` is `spineloop`."""

from spineloop.cli import main

main()
