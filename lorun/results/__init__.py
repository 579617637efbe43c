"""From per-image rows and accounts to versioned tables and figures."""
