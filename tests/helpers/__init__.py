"""What several test files share: small data, models and runs, stand-ins, servers, processes and disks."""
