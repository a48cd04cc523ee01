"""The tests. `support` is what they share; the other folders are by kind."""
