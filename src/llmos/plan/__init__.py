"""The plan language: values, lines, graphs of lines, and their risk."""
