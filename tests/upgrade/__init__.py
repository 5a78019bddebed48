"""Two versions of the program on one database, as they are while a deployment is upgraded."""
