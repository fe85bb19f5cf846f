"""Who may ask for what, and how much of it: keys, tenants, scopes and limits."""
