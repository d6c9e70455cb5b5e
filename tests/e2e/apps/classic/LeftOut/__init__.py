raise RuntimeError("a function that is left out is not imported")
