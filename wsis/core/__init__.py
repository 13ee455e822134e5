"""Values, settings, errors, files, seeds and tables that every other room builds on; imports nothing of wsis."""
