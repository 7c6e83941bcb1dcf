"""What runs and comparisons look like to those who read them. Pure: records in, text out."""
