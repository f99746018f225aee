"""From results to answers: conclusions, forecasts, the big run, studies. Floor 7 of sweeper."""
