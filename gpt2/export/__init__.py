"""What a finished run becomes elsewhere: one file per target."""
