"""Methods of others, beside which the four stand in tables and whose maps they may take: a file each, with what rows need."""
