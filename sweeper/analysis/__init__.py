"""From results to answers: conclusions, forecasts, the big run, studies. Floor 6 of sweeper."""
