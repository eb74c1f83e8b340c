"""What is reported: pure functions of arrays, with bootstrap intervals."""
