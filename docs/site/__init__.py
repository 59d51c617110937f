"""What the guide's pages are made with: parts that are generated from the program, and a reader of the pages."""
