"""HTTP handlers, one module for each resource; routes and shapes of the Globus Compute web API."""
