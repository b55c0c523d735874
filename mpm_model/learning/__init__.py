"""What is hidden, what is asked for, and the loop."""
