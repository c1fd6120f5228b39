"""Commands of `fhir-server`, one file each; imported only when called."""
