"""How good a reconstruction is, under named protocols."""
