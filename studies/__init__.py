"""What is searched: spaces and Optuna studies over the rows of a suite. Searches arrive with the studies release."""
