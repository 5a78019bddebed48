"""What can be asked; each route hands on to the client and says what came of it."""
