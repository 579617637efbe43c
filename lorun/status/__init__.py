"""`lorun status`: results that code, configuration, data or packages of today would no longer give."""
