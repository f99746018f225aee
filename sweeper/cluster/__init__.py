"""Everything that trains through Ray. Floor 8 of sweeper."""

from sweeper.cluster.surroundings import before_ray_is_imported

before_ray_is_imported()  # here, as every module of this room imports Ray
