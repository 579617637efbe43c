"""Which committed rows the code, configuration, data and packages of today would no longer give, and why."""
