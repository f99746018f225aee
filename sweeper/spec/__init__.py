"""One sweep as a frozen value: sections, reading, checks. Floor 2 of sweeper."""
