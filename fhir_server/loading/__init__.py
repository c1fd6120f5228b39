"""Loading of files into a store or a server: what `fhir-server load` does."""
