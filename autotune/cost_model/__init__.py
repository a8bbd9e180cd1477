"""Models that predict how long a config takes, from features of it."""
