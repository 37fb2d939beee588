"""Who asks: principals and roles, local users and their passwords, tokens."""
