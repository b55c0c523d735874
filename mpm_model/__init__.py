"""What a pose is and what the model does with it. No Ray, no files of data sets, nothing printed."""
