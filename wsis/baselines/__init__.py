"""Methods of others, beside which the four stand in tables: each a file with the verbs that its rows need."""
