"""What do people see: the statistics page and the logs."""
