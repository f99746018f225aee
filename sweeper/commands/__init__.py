"""The console commands, a module for each group; `sweeper.cli` gathers them."""
