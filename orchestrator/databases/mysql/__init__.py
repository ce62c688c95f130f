"""MariaDB and MySQL: our own way to a server, its lock, what its errors mean."""
