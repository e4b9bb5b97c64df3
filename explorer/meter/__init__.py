"""How much a model still listens to the words of its prompt: a number without a judge, pictures or training data."""
