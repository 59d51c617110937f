"""Who talks to whom: intake ports, routes, exchanges and bridges."""
