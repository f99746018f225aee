"""One sweep as a frozen value: sections, reading, checks. Floor 3 of sweeper."""
