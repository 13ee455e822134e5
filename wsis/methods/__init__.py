"""The methods, one package each with the same files: config, model, labels, objective, and the verbs in __init__."""
