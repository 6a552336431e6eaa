"""What is shown: the one reader of MLflow, tables and figures beside the paper's numbers."""
