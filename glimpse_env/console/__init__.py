"""The console command ``glimpse``: a subcommand for each script, what is installed here, and the cache."""
