"""One training loop, runs that resume, the stages that methods share, and what a finished run is applied to."""
