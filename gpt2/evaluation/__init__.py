"""What a trained model is worth: held-out text, and tasks of lm-evaluation-harness."""
