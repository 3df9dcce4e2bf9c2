"""The dry run: what every step of a study must prove before it may train."""
