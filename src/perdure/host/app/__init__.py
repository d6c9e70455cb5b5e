"""What an app folder declares: its functions, however they are written, and what is wrong with them."""
