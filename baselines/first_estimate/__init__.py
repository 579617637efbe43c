"""The initial estimate alone."""
