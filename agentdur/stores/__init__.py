"""Where committed state lives: one schema, several stores."""
