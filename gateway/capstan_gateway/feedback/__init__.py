"""What clients say of answers that they got, and which answers they got."""
