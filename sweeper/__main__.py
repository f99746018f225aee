"""Run the console command as ``python -m sweeper``."""

from sweeper.cli import main

main()
