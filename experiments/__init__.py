"""What is run: specs (YAML to typed runs), suites, the runner, and the one writer to MLflow."""
