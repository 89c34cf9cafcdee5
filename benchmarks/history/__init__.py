"""What asv times from commit to commit (`asv.conf.json`)."""
