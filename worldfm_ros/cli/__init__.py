"""Commands: thin layers over the package. `worldfm --help` lists them."""
